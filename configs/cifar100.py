"""CIFAR-100 from scratch at 72 px, and from pretrained weights at 384 px, with accumulation.

    vit_jax train --config=configs/cifar100.py:scratch --workdir=runs/scratch
    vit_jax train --config=configs/cifar100.py:finetune384 --workdir=runs/finetune384
    vit_jax train --config=configs/cifar100.py:scratch,CIFAR100PNG,original --workdir=runs/original

RUN: `scratch` trains ViT-B/6 (144 tokens) at 72 px for 100 epochs, in batches of 16 times 16;
`finetune384` starts ViT-B/16 at 384 px from its recommended ImageNet-21k weights, for 30 epochs in
batches of 8 times 64. The step accumulates the gradient over the second number.
DATA: `cifar100` of TFDS, or a folder {train,test}/CLASS/*.png of the same images.

`original` is the training of the project these runs come from, as far as it is described: a
learning rate of 1e-3 and dropout of 0.1, flips, turns of 0.02 degrees and crops of 80 to 100 % from
scratch. It reports 23.93 / 49.68 % top-1 / top-5 from scratch, and 86.54 / 98.17 % at 384 px. What
it does not say is taken to be AdamW without a schedule from scratch, and the official fine-tuning
rule at 384 px. Without the word, the same model, epochs and batches with warm-up and cosine,
RandAugment, mixup and CutMix, label smoothing, stochastic depth and a running average of the
parameters.

Neither was run by us to the end. Scores, hardware and time: configs/README.md.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from vit_jax.config import Config
from vit_jax.recipe_words import VARIANT, Word, read_words


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "RUN", "RUN,DATA" or "RUN,DATA,VARIANT"."""
    run, data, variant = read_words(
        "cifar100",
        arg,
        Word("RUN", tuple(_RUNS)),
        Word("DATA", default="cifar100"),
        VARIANT,
    )
    config: Config = ConfigDict({"dataset": data, "num_classes": 100, "batch_eval": 200})
    config.augment = {"flip": True}
    _RUNS[run](config, variant == "original")
    return config


def _from_scratch(config: Config, original: bool) -> None:
    config.pp = {"crop": 72}
    rates = {"dropout_rate": 0.1} if original else {"drop_path_rate": 0.2}
    config.model = {"model_name": "ViT-B_16", "patches": {"size": (6, 6)}, "transformer": rates}
    config.epochs, config.batch, config.accum_steps = 100.0, 256, 16
    config.optimizer, config.base_lr = "adamw", 1e-3
    config.eval_every = config.checkpoint_every = 1000
    if original:
        config.decay_type, config.warmup_steps = "constant", 0
        config.augment.update({"rotate": 0.02, "crop_area": (0.8, 1.0)})
    else:
        config.warmup_steps, config.weight_decay = 1000, 0.1
        config.augment.update({"crop_area": (0.3, 1.0), "randaugment": (2, 10)})
        _regularise(config)


def _at_384(config: Config, original: bool) -> None:
    config.model_or_filename = "vit_b16"
    config.pp = {"crop": 384}
    config.epochs, config.batch, config.accum_steps = 30.0, 512, 64
    config.optimizer = "sgd"
    config.augment.update({"crop_area": (0.05, 1.0), "crop_rule": "tensorflow"})
    config.eval_every = config.checkpoint_every = 200
    if original:
        config.base_lr, config.warmup_steps = 1e-3, 0
        config.model = {"transformer": {"dropout_rate": 0.1}}
    else:
        config.base_lr, config.warmup_steps = 0.03, 200
        config.model = {"transformer": {"drop_path_rate": 0.1}}
        _regularise(config)


def _regularise(config: Config) -> None:
    config.label_smoothing, config.ema_decay = 0.1, 0.999
    config.augment.update({"mixup": 0.2, "cutmix": 1.0})


_RUNS: dict[str, Callable[[Config, bool], None]] = {
    "scratch": _from_scratch,
    "finetune384": _at_384,
}
