"""A gated MLP behind a convolutional stem, against a plain ViT: 16 tokens of 64 px images.

    vit_jax train --config=configs/gated_convstem.py:gated,base,IMAGES --workdir=runs/gated
    vit_jax train --config=configs/gated_convstem.py:plain,base,IMAGES --workdir=runs/plain
    vit_jax train --config=configs/gated_convstem.py:gated,small,CIFAR10PNG --workdir=runs/small

MODEL: `gated` has three strided convolutions in the place of the patches, and in each block a gated
MLP; `plain` is the official ViT with patches of 16 px. Both see 4 x 4 tokens.
SIZE: `base` is that of ViT-Base, 12 layers of width 768: 78 million parameters gated (an MLP of
2360, which the description leaves open), 86 million plain. `small` has 6 layers of width 192 with
the same ratios, for a CPU.
DATA: an image folder or a name of TFDS.

`original` is the training of the project it comes from, whose description says no more than that
both were trained alike and from scratch: AdamW at 3e-4 for 50 epochs, no schedule, flips. It
reports a loss of 1.0565 gated against 1.2100 plain, and 63.51 against 56.19 % of macro F1. Without
the word, the same epochs with warm-up and cosine, crops, RandAugment, mixup and CutMix, label
smoothing, stochastic depth and a running average of the parameters. `small` is spared half of
them: with those of `base` it learns too little (benchmarks/LOG.md).

That project's code (github.com/IOBananaOI/ViT-Image-Classification) was found after these runs, and
says more: CIFAR-10; an MLP of 2304, whose 78 million count positions for each image of a batch;
AdamW at 2e-4, times 0.9 after each of 25 epochs; batches of 128; images as they are. Its F1 is a
mean over batches, of the best epoch.

Scores, hardware and time: configs/README.md.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.config import Config
from vit_jax.recipe_words import VARIANT, Word, read_words

# Width, layers, heads, MLP width of the plain model and of the gated one.
_SIZES = {"base": (768, 12, 12, 3072, 2360), "small": (192, 6, 3, 768, 592)}
# In the training that is not the original one: how strongly images are changed, and how many
# residual branches are dropped.
_AUGMENT = {
    "base": {"crop_area": (0.3, 1.0), "randaugment": (2, 10), "cutmix_share": 0.5},
    "small": {"crop_area": (0.5, 1.0), "randaugment": (1, 5), "cutmix_share": 0.2},
}
_DROP_PATH = {"base": 0.1, "small": 0.05}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "MODEL,SIZE,DATA" or "MODEL,SIZE,DATA,VARIANT"."""
    model, size, data, variant = read_words(
        "gated_convstem",
        arg,
        Word("MODEL", ("gated", "plain")),
        Word("SIZE", tuple(_SIZES)),
        Word("DATA"),
        VARIANT,
    )
    config: Config = ConfigDict(
        {
            "dataset": data,
            "pp": {"crop": 64},
            "augment": {"flip": True},
            "model": _model(model == "gated", *_SIZES[size]),
            "epochs": 50.0,
            "batch": 256,
            "batch_eval": 500,
            "optimizer": "adamw",
            "base_lr": 3e-4,
            "decay_type": "constant",
            "warmup_steps": 0,
            "eval_every": 1000,
            "checkpoint_every": 1000,
        }
    )
    if variant == "sound":
        _train_soundly(config, size)
    return config


def _model(
    gated: bool, width: int, layers: int, heads: int, mlp_dim: int, gated_dim: int
) -> dict[str, Any]:
    transformer = {
        "num_layers": layers,
        "num_heads": heads,
        "mlp_dim": gated_dim if gated else mlp_dim,
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
    }
    if gated:
        own = {"stem": "conv", "transformer": {**transformer, "mlp": "gated"}}
    else:
        own = {"patches": {"size": (16, 16)}, "transformer": transformer}
    return {"hidden_size": width, **own}


def _train_soundly(config: Config, size: str) -> None:
    config.base_lr, config.decay_type, config.warmup_steps = 1e-3, "cosine", 500
    config.weight_decay, config.label_smoothing, config.ema_decay = 0.05, 0.1, 0.999
    config.augment.update({"mixup": 0.2, "cutmix": 1.0, **_AUGMENT[size]})
    config.model.transformer.drop_path_rate = _DROP_PATH[size]
