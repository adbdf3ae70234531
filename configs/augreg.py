"""The official fine-tuning of AugReg checkpoints ("How to train your ViT?", arXiv:2106.10270).

    vit_jax train --config=configs/augreg.py:R_Ti_16 --workdir=runs/pets \\
        --config.dataset=oxford_iiit_pet --config.pp.train="train[:90%]" --config.base_lr=0.01
    vit_jax train --config=configs/augreg.py:Ti_16,PHOTOS --workdir=runs/photos

MODEL: `Ti_16`, `S_32`, `R26_S_32`, …, for the ImageNet-21k checkpoint that the official README
recommends; or the full name of a checkpoint, without `.npz`.
DATA: a name of TFDS or an image folder; or leave it out and give `--config.dataset`.

SGD with momentum at 0.03, cosine, 500 steps of which 100 warm up, batches of 512 in 8 parts, crops
of 5 to 100 % and flips, dropout 0; evaluated on whole images at 384 px, all as officially (where
the config names a size of 448 besides, which nothing reads). The weights come from
`--config.pretrained_dir`, or from whichever place of the catalogue has them.

Reported (official README) for the recommended checkpoints at 384 px: ImageNet-1k from 78.22 %
(Ti/16) to 85.59 % (L/16). Not run by us to the end yet.
"""

from ml_collections import ConfigDict

from vit_jax.recipe_words import Word, read_words


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "MODEL" or "MODEL,DATA"."""
    model, data = read_words("augreg", arg, Word("MODEL"), Word("DATA", default=""))
    return ConfigDict(
        {
            "model_or_filename": model,
            "pretrained_dir": "augreg",
            "dataset": data,
            "pp": {"train": "train", "test": "test", "crop": 384},
            "augment": {"crop_area": (0.05, 1.0), "crop_rule": "tensorflow", "flip": True},
            "model": {"transformer": {"dropout_rate": 0.0}},
            "total_steps": 500,
            "batch": 512,
            "accum_steps": 8,
            "base_lr": 0.03,
            "warmup_steps": 100,
        }
    )
