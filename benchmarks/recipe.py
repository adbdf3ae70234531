"""A training run without data, as a recipe for `vit_jax benchmark`: model, images a batch, pixels.

    vit_jax benchmark train --config=benchmarks/recipe.py:ViT-B_16,8,224
    vit_jax benchmark save --config=benchmarks/recipe.py:ViT-B_16,8 --config.ema_decay=0.999

1000 classes and AdamW; 224 px where nothing else is said. What is not a benchmark's business (an
end of the schedule, a warm-up) is given so that no data need be counted.
"""

from typing import Any


def get_config(arg: str) -> dict[str, Any]:
    """Returns the settings for "MODEL,IMAGES" or "MODEL,IMAGES,PIXELS"."""
    model, images, *pixels = arg.split(",")
    return {
        "model": {"model_name": model},
        "num_classes": 1000,
        "pp": {"crop": int(pixels[0]) if pixels else 224},
        "batch": int(images),
        "batch_eval": int(images),
        "optimizer": "adamw",
        "total_steps": 1000,
        "warmup_steps": 0,
    }
