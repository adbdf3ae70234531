"""Fine-tune pretrained weights on your own images, or on a dataset of TFDS: the official recipe.

    vit_jax train --config=configs/finetune.py:WEIGHTS,DATA --workdir=runs/finetuned
    vit_jax train --config=configs/finetune.py:vit_ti16,PHOTOS --workdir=runs/photos
    vit_jax train --config=configs/finetune.py:B_16.npz,cifar10,384 --workdir=runs/cifar10 \\
        --config.batch=512 --config.base_lr=0.03 --config.warmup_steps=500 \\
        --config.total_steps=10000

WEIGHTS: a file, folder, URL or workdir, or a published name ("vit_ti16" is the recommended
ImageNet-21k one). DATA: a folder {train,test}/CLASS/*.jpg, or one CLASS/ level, or a name of TFDS.
The number after it is the size in pixels (224 if left out; officially 384); positions are resized
to it. The head is new and starts from zeros.

SGD with momentum, cosine decay, no weight decay, random crops of 5 to 100 % and flips, as
officially; the batch is small, for a few thousand images on any machine. The last lines above give
the official batch, learning rate and steps for CIFAR-10.

Scores, hardware and time: cats and dogs from DeiT-Ti on two CPU cores; see configs/README.md, and
benchmarks/README.md, "Fine-tuning against training from scratch".
"""

from ml_collections import ConfigDict

from vit_jax.errors import ConfigError


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "WEIGHTS,DATA" or "WEIGHTS,DATA,PIXELS"."""
    weights, _, rest = arg.partition(",")
    data, _, pixels = rest.partition(",")
    if not weights or not data:
        raise ConfigError(
            f"configs/finetune.py:{arg} needs weights and data: "
            "--config=configs/finetune.py:vit_ti16,PHOTOS"
        )
    if pixels and (not pixels.isdecimal() or int(pixels) == 0):
        raise ConfigError(f"configs/finetune.py:{arg}: {pixels!r} must be a number of pixels")
    return ConfigDict(
        {
            "model_or_filename": weights,
            "dataset": data,
            "pp": {"crop": int(pixels or 224)},
            "augment": {"crop_area": (0.05, 1.0), "crop_rule": "tensorflow", "flip": True},
            "epochs": 5.0,
            "batch": 32,
            "batch_eval": 128,
            "optimizer": "sgd",
            "base_lr": 0.01,
            "warmup_steps": 5,
            "eval_every": 100,
            "checkpoint_every": 500,
        }
    )
