"""How fast a model classifies, on made-up images: no data, no weights.

    vit_jax benchmark infer --config=configs/inference_time.py:b32
    vit_jax benchmark infer --config=configs/inference_time.py:l16,64,384 --config.dtype=bfloat16

MODEL: a name of `vit_jax models`; then the images of a batch (64 if left out), and their size in
pixels (224). The official recipe of this name had them in separate flags, and no command: its
`--config.model_name=ViT-L_16 --config.batch=64 --config.image_size=384` is `l16,64,384` here, and
`vit_jax train` says so.

Figures of ours, with hardware: benchmarks/README.md.
"""

from ml_collections import ConfigDict

from vit_jax.errors import ConfigError
from vit_jax.recipe_words import Word, read_words


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "MODEL", "MODEL,IMAGES" or "MODEL,IMAGES,PIXELS"."""
    model, images, pixels = read_words(
        "inference_time",
        arg,
        Word("MODEL"),
        Word("IMAGES", default="64"),
        Word("PIXELS", default="224"),
    )
    for name, text in (("IMAGES", images), ("PIXELS", pixels)):
        if not text.isdecimal() or int(text) == 0:
            raise ConfigError(
                f"configs/inference_time.py:{arg}: {name} {text!r} must be a number above 0"
            )
    return ConfigDict(
        {
            "model": {"model_name": model},
            "dataset": "",
            "num_classes": 1000,
            "pp": {"crop": int(pixels)},
            "batch": int(images),
            "batch_eval": int(images),
            "total_steps": 1,
            "warmup_steps": 0,
        }
    )
