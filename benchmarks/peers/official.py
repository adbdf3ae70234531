"""The official model class, out of a checkout of google-research/vision_transformer."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from peers import plain_flax


def load_model(checkout: Path, classes: int, fields: dict[str, Any]) -> nn.Module:
    """Returns the official VisionTransformer; two files of the checkout are read, and no more.

    The official package has the name of this one. Its `models_vit` imports `models_resnet` from
    it, which is found because it was put among the loaded modules under that name.
    """
    _load(checkout, "models_resnet")
    models = _load(checkout, "models_vit")
    return models.VisionTransformer(num_classes=classes, **ConfigDict(fields))


def steps(
    model: nn.Module, pixels: int, batch: int, rule: optax.GradientTransformation | None
) -> tuple[Callable[[], jax.Array], int]:
    """Returns a call that trains on one batch, or applies the model, and its parameters' number.

    It computes in float32, as shipped: no setting of the official code gives another dtype.

    Args:
      model: as `load_model` returns it.
      pixels: height and width.
      batch: images.
      rule: the optimiser; None applies the model.
    """
    images = jax.random.normal(jax.random.key(0), (batch, pixels, pixels, 3))
    params = jax.jit(lambda key: model.init(key, images[:1], train=False)["params"])(
        jax.random.key(0)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    if rule is None:
        apply = jax.jit(lambda params: model.apply({"params": params}, images, train=False))
        return lambda: apply(params), count
    rngs = {"dropout": jax.random.key(1)}

    def logits_of(params: Any, images: jax.Array) -> Any:
        return model.apply({"params": params}, images, train=True, rngs=rngs)

    step = plain_flax.plain_step(logits_of, rule)
    given = {"image": images, "label": jnp.zeros(batch, jnp.int32)}
    state = [(params, rule.init(params))]

    def call() -> jax.Array:
        state[0], measured = step(state[0], given)
        return measured["loss"]

    return call, count


def _load(checkout: Path, name: str) -> ModuleType:
    path = checkout / "vit_jax" / f"{name}.py"
    if not path.exists():
        raise SystemExit(f"--peer: {path} does not exist; give the root of an official checkout")
    spec = importlib.util.spec_from_file_location(f"vit_jax.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
