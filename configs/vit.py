"""The official fine-tuning: a ViT or hybrid pretrained on ImageNet-21k, at 384 px.

    vit_jax train --config=configs/vit.py:b16,cifar10 --workdir=runs/cifar10
    vit_jax train --config=configs/vit.py:b16,cifar10 --workdir=runs/cifar10 \\
        --config.pretrained_dir=FOLDER --config.accum_steps=16

MODEL: as officially, `b16`, `l32`, `r50_b16`, or any other name of `vit_jax models`.
DATA: `cifar10`, `cifar100` and `imagenet2012` with the official splits and steps; or any name of
TFDS with splits train and test, or an image folder, for 500 steps, 100 of them of warm-up.

SGD with momentum at 0.03 (0.01 for `b16` on `cifar10`), cosine, 500 steps of warm-up on the three,
batches of 512 in 8 parts, crops of 5 to 100 % and flips, as officially. The weights are
FOLDER/ViT-B_16.npz; without `pretrained_dir`, the same file from whichever place of the catalogue
has it (`vit_jax models --pretrained`). Smaller machines: more parts, or configs/finetune.py.

Reported by the paper (arXiv:2010.11929, table 5) for ViT-B/16: 98.95 % on CIFAR-10, 91.67 % on
CIFAR-100, on TPUv3. Not run by us to the end yet.
"""

from typing import Any

from ml_collections import ConfigDict

from vit_jax.models.zoo import canonical_name
from vit_jax.recipe_words import Word, read_words

_CIFAR = {"steps": 10_000, "train": "train[:98%]", "test": "test"}
_DATA: dict[str, dict[str, Any]] = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenet2012": {"steps": 20_000, "train": "train[:99%]", "test": "validation"},
}
_OTHER = {"steps": 500, "train": "train", "test": "test"}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "MODEL,DATA"."""
    model, data = read_words("vit", arg, Word("MODEL"), Word("DATA"))
    name, splits = canonical_name(model), _DATA.get(data, _OTHER)
    return ConfigDict(
        {
            "model": {"model_name": name},
            "pretrained_dir": "imagenet21k",
            "dataset": data,
            "pp": {"train": splits["train"], "test": splits["test"], "crop": 384},
            "augment": {"crop_area": (0.05, 1.0), "crop_rule": "tensorflow", "flip": True},
            "total_steps": splits["steps"],
            "batch": 512,
            "accum_steps": 8,
            "base_lr": 0.01 if (name, data) == ("ViT-B_16", "cifar10") else 0.03,
            "warmup_steps": min(500, splits["steps"] // 5),
        }
    )
