"""Small runs on images with captions, for tests."""

from typing import Any

from tests import runs
from vit_jax.config import Config

TINY: dict[str, Any] = {
    "task": "contrast",
    "captions": "classes",
    "lock_image": False,
    "augment": {"rotate": 0.0, "shift": 0.0, "mixup": 0.0},
    "text": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32, "max_len": 24},
}


def tiny_config(**changes: Any) -> Config:
    """Returns the checked settings of a run of 30 steps; on the digits, whose captions are made."""
    nested = {name: {**TINY[name], **changes.pop(name, {})} for name in ("augment", "text")}
    return runs.tiny_config(**{**TINY, **changes, **nested})
