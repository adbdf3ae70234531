"""Compact ViTs on CIFAR: a class token, sequence pooling, and a convolutional tokenizer.

    vit_jax train --config=configs/compact_cifar.py:mcvit,cifar10 --workdir=runs/mcvit
    vit_jax train --config=configs/compact_cifar.py:cvt,cifar100,original --workdir=runs/cvt
    vit_jax train --config=configs/compact_cifar.py:cct,CIFAR10PNG --workdir=runs/cct

MODEL: `cvt` reads the class token and `mcvit` pools the sequence (arXiv:2104.05704, section 3.2);
these are the names of the project they come from, while the paper calls the pooling one CVT. Both
have 119 thousand parameters: 32 px in patches of 4, width 48, 4 layers of 4 heads, MLP of 192.
`cct` is `mcvit` with two 3 x 3 convolutions in the place of the patches, and 146 thousand.
DATA: `cifar10` or `cifar100` of TFDS, or a folder {train,test}/CLASS/*.png of the same images.

`original` is that project's training: 100 epochs, batches of 256, a learning rate of 0.01 from the
first step to the last. It reports 77.25 % on CIFAR-10 and 47.21 % on CIFAR-100 with sequence
pooling. What it does not say is taken from the code that it grew from, which is described in the
same words (github.com/tintn/vision-transformer-from-scratch, 75.5 % on CIFAR-10 with a class
token): AdamW with a weight decay of 0.01, flips, and crops of 80 to 100 % of an image. That code
decays biases, norms and positions too, has GELU by tanh and no norm before the head, and draws its
first kernels from N(0, 0.02); here those are as in the other variant.

Without the word, the same epochs and batches with warm-up and cosine decay, label smoothing, a
running average of the parameters, shifts of up to 4 pixels, and as much mixing of images as the
model has use for: `cvt` and `mcvit`, which are too small for their data, have mixup, and in a fifth
of the batches CutMix in its place; `cct`, which learns its images by heart, has CutMix in half of
them, one operation of RandAugment an image, and a little stochastic depth besides.

On a CPU `--config.accum_steps=32` is nearly twice as fast (benchmarks/LOG.md, "Training in parts");
the images of a part are then mixed among themselves.

Scores, hardware and time: configs/README.md.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.config import Config
from vit_jax.recipe_words import VARIANT, Word, read_words

_MODELS: dict[str, dict[str, Any]] = {
    "cvt": {"model_name": "compact_cifar_token"},
    "mcvit": {"model_name": "compact_cifar_sequence"},
    "cct": {
        "model_name": "compact_cifar_sequence",
        "stem": "cct",
        "stem_fields": {"num_layers": 2, "kernel_size": 3, "stride": 1},
    },
}
_TRAINING: dict[str, dict[str, Any]] = {
    "original": {
        "augment": {"flip": True, "crop_area": (0.8, 1.0)},
        "optimizer": "adamw",
        "base_lr": 0.01,
        "decay_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "grad_norm_clip": 0.0,
    },
    "sound": {
        "augment": {"flip": True, "shift": 0.125},
        "optimizer": "adamw",
        "base_lr": 2e-3,
        "warmup_steps": 1000,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "ema_decay": 0.999,
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "MODEL,DATA" or "MODEL,DATA,VARIANT"."""
    model, data, variant = read_words(
        "compact_cifar", arg, Word("MODEL", tuple(_MODELS)), Word("DATA"), VARIANT
    )
    config: Config = ConfigDict(
        {
            "dataset": data,
            "pp": {"crop": 32},
            "model": _MODELS[model],
            "epochs": 100.0,
            "batch": 256,
            "batch_eval": 500,
            "eval_every": 1000,
            "checkpoint_every": 1000,
            **_TRAINING[variant],
        }
    )
    if variant == "sound":
        _mix(config, by_heart=model == "cct")
    return config


def _mix(config: Config, by_heart: bool) -> None:
    """Adds mixed images, and what else keeps a model from learning its images by heart."""
    config.augment.update({"mixup": 0.2, "cutmix": 1.0, "cutmix_share": 0.5 if by_heart else 0.2})
    if by_heart:
        config.augment.randaugment = (1, 10)
        config.model.transformer = {"drop_path_rate": 0.05}
