"""Cats against dogs, from a folder of photographs, from scratch.

    vit_jax train --config=configs/cats_dogs.py:PETIMAGES --workdir=runs/cats_dogs
    vit_jax train --config=configs/cats_dogs.py:settings.json,original --workdir=runs/original
    vit_jax train --config=configs/cats_dogs.py:PETIMAGES --workdir=runs/longer --config.epochs=50

DATA: a folder {train,test}/CLASS/*.jpg or one CLASS/ level, of which a fifth is then held out; or a
JSON file that names it and changes what it likes:

    {"folder": "PetImages", "epochs": 10, "learning_rate": 0.001, "batch_size": 64,
     "warmup_steps": 200, "mean": [0.49, 0.45, 0.42], "std": [0.26, 0.26, 0.26]}

Where mean and std are not given, they are those of the training images. Images that cannot be read
are left out, and counted: PetImages as it is given away has two (Cat/666.jpg, Dog/11702.jpg). The
warm-up of 200 steps is for its 3,125 steps: a few photographs need a shorter one.

Photographs are seen at 128 px in patches of 16 (64 tokens) by 6 layers of 3 heads, width 192, 2.7
million parameters.

`original` is the training of the project it comes from, as far as it is described: 10 epochs from
scratch, which end at 64.4 % of the validation images and overfit. What it does not say is taken to
be AdamW at 1e-3 without a schedule, in batches of 64, and no augmentation. Without the word, the
same model and epochs at 3e-4 with warm-up and cosine, crops, flips, a little of RandAugment, mixup,
CutMix and stochastic depth, label smoothing, and a running average of the parameters. Pretrained
weights do far better than either: configs/finetune.py.

Scores, hardware and time: configs/README.md.
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vit_jax.errors import ConfigError, nearest
from vit_jax.recipe_words import VARIANT, Word, read_words

# What the JSON file may say, and the setting that it is.
_SAID = {
    "folder": "dataset",
    "epochs": "epochs",
    "learning_rate": "base_lr",
    "batch_size": "batch",
    "warmup_steps": "warmup_steps",
    "mean": "pp.mean",
    "std": "pp.std",
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "DATA" or "DATA,VARIANT"."""
    data, variant = read_words("cats_dogs", arg, Word("DATA"), VARIANT)
    settings: dict[str, Any] = {
        "dataset": data,
        "bad_images": "skip",
        "pp": {"crop": 128, "antialias": True, "from_data": True},
        "model": {
            "patches": {"size": (16, 16)},
            "hidden_size": 192,
            "transformer": {
                "num_layers": 6,
                "num_heads": 3,
                "mlp_dim": 768,
                "dropout_rate": 0.0,
                "attention_dropout_rate": 0.0,
            },
        },
        "epochs": 10.0,
        "batch": 64,
        "batch_eval": 250,
        "optimizer": "adamw",
        "base_lr": 1e-3,
        "decay_type": "constant",
        "warmup_steps": 0,
        "eval_every": 200,
        "checkpoint_every": 500,
    }
    if variant == "sound":
        _train_soundly(settings)
    if data.endswith(".json"):
        _apply(settings, Path(data))
    return ConfigDict(settings)


def _train_soundly(settings: dict[str, Any]) -> None:
    settings |= {
        "base_lr": 3e-4,  # at 1e-3 heads soon look at the class token alone, and learn little
        "decay_type": "cosine",
        "warmup_steps": 200,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "ema_decay": 0.998,
        "augment": {
            "flip": True,
            "crop_area": (0.5, 1.0),
            "randaugment": (1, 5),
            "mixup": 0.2,
            "cutmix": 1.0,
            "cutmix_share": 0.2,
        },
    }
    settings["model"]["transformer"]["drop_path_rate"] = 0.05


def _apply(settings: dict[str, Any], file: Path) -> None:
    """Lays the settings of a JSON file over others."""
    for name, value in _read(file).items():
        if name not in _SAID:
            raise ConfigError(
                f"{file}: {name!r} is none of {', '.join(_SAID)}{nearest(name, _SAID)}"
            )
        *parents, last = _SAID[name].split(".")
        node = settings[parents[0]] if parents else settings
        node[last] = tuple(value) if isinstance(value, list) else value


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(said, dict) or "folder" not in said:
        raise ConfigError(f'{file}: must hold a JSON object with "folder" in it')
    return said
