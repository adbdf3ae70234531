"""Small models of random weights, opened as the command opens them."""

from typing import Any

import jax.numpy as jnp

from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.adapt import Report
from vit_jax.data.preprocess import Preprocess
from vit_jax.models.zoo import create_model
from vit_jax.pretrained import Pretrained

MIXER = {"patches": {"size": (8, 8)}, "num_blocks": 1, "hidden_dim": 12}
MIXER |= {"tokens_mlp_dim": 8, "channels_mlp_dim": 8}


def opened(name: str | None = None, classes: int | None = 5, **fields: Any) -> Pretrained:
    """Returns a model for images of 32 × 32 pixels."""
    model = create_model(name, classes, **(MIXER if name else tiny(**fields)))
    params = trees.unflatten({p: jnp.asarray(a) for p, a in random_params(model).items()})
    names = tuple(f"class {i}" for i in range(classes)) if classes else None
    return Pretrained(model, {"params": params}, Preprocess((32, 32)), names, Report(), "a test")
