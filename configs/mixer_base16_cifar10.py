"""The official fine-tuning of Mixer-B/16 on CIFAR-10, at 224 px.

    vit_jax train --config=configs/mixer_base16_cifar10.py --workdir=runs/mixer
    vit_jax train --config=configs/mixer_base16_cifar10.py --workdir=runs/mixer \\
        --config.pretrained_dir=FOLDER

SGD with momentum at 0.03, cosine, 10,000 steps of which 500 warm up, batches of 512 in 8 parts,
crops of 5 to 100 % and flips, as officially. The weights are FOLDER/Mixer-B_16.npz; without
`pretrained_dir`, the ImageNet-21k ones from whichever place of the catalogue has them.

Reported (official README): 96.72 %, in 3.0 h on 8 V100. Not run by us to the end yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the settings."""
    return ConfigDict(
        {
            "model": {"model_name": "Mixer-B_16"},
            "pretrained_dir": "imagenet21k",
            "dataset": "cifar10",
            "pp": {"train": "train[:98%]", "test": "test", "crop": 224},
            "augment": {"crop_area": (0.05, 1.0), "crop_rule": "tensorflow", "flip": True},
            "total_steps": 10_000,
            "batch": 512,
            "accum_steps": 8,
            "base_lr": 0.03,
            "warmup_steps": 500,
        }
    )
