"""A compact ViT from scratch on your own images.

    vit_jax train --config=configs/folder.py:PHOTOS --workdir=runs/photos
    vit_jax train --config=configs/folder.py:CIFAR10,32 --workdir=runs/cifar10 --config.epochs=4

PHOTOS holds {train,test}/CLASS/*.jpg, or one CLASS/ level, a fifth of which is then held out. The
number after the comma is the size the images are seen at, in pixels (64 if left out): a multiple
of 8, as each image becomes 8 x 8 patches.

Score, hardware and time: complete CIFAR-10 as PNG files, 4 epochs; see benchmarks/README.md.
"""

from ml_collections import ConfigDict

from vit_jax.errors import ConfigError

PATCHES = 8  # along each side


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "FOLDER" or "FOLDER,PIXELS"."""
    folder, _, pixels = arg.partition(",")
    if not folder:
        raise ConfigError("configs/folder.py needs a folder: --config=configs/folder.py:PHOTOS")
    if pixels and (not pixels.isdecimal() or int(pixels) % PATCHES):
        raise ConfigError(f"configs/folder.py:{arg}: {pixels!r} must be a multiple of {PATCHES}")
    size = int(pixels or 64)
    return ConfigDict(
        {
            "dataset": folder,
            "pp": {"crop": size},
            "augment": {"crop_area": (0.3, 1.0), "flip": True},
            "model": {
                "patches": {"size": (size // PATCHES, size // PATCHES)},
                "hidden_size": 96,
                "transformer": {
                    "num_layers": 4,
                    "num_heads": 4,
                    "mlp_dim": 192,
                    "dropout_rate": 0.0,
                    "attention_dropout_rate": 0.0,
                },
                "classifier": "gap",
            },
            "epochs": 30.0,
            "batch": 128,
            "batch_eval": 500,
            "optimizer": "adamw",
            "base_lr": 1e-3,
            "warmup_steps": 10,
            "weight_decay": 0.05,
            "label_smoothing": 0.1,
            "eval_every": 500,
            "checkpoint_every": 500,
        }
    )
