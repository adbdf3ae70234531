"""Attention heads taken out for good (arXiv:1905.10650)."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vit_jax import trees
from vit_jax.errors import ConfigError
from vit_jax.models.encoder import attention_fields, heads_of_layers
from vit_jax.models.vit import VisionTransformer

_ATTENTION = "Transformer/encoderblock_{layer}/MultiHeadDotProductAttention_0"
# The axis of the heads, in what a head has of its own; `out/bias` belongs to all of them.
_HEAD_AXIS = {
    "query/kernel": 1, "query/bias": 0, "key/kernel": 1, "key/bias": 0,
    "value/kernel": 1, "value/bias": 0, "out/kernel": 0,
}  # fmt: skip


def prune_heads(params: trees.Tree, heads: Mapping[int, Collection[int]]) -> trees.Tree:
    """Takes attention heads out of a VisionTransformer's parameters.

    The model that the parameters belong to applies the pruned ones as they are, and its logits are
    those with `head_mask` 0 at these heads. To initialise, restore or describe the smaller model,
    see `fit_heads`.

    Args:
      params: the tree of a `VisionTransformer`; it is left as it is.
      heads: {layer: numbers of the heads to take out}, counted from 0, as the parameters hold them.

    Returns:
      A tree of the same paths, with smaller projections.

    Raises:
      ConfigError: a layer or head that does not exist, or a layer that would have none left.
    """
    flat = trees.flatten(params)
    for layer, gone in heads.items():
        prefix = _ATTENTION.format(layer=layer)
        keep = _heads_left(flat, layer, gone)
        for name, axis in _HEAD_AXIS.items():
            if (path := f"{prefix}/{name}") in flat:
                flat[path] = flat[path].take(keep, axis=axis)
    return trees.unflatten(flat)


def fit_heads(model: VisionTransformer, params: trees.Tree) -> VisionTransformer:
    """Returns the model with as many heads in each layer as the parameters have.

    Its `init` makes parameters of the pruned shapes, which is what training from scratch and
    restoring a checkpoint start from; its `transformer` field is what a config has to say.
    """
    fields, flat = dict(model.transformer or {}), trees.flatten(params)
    kernels = [
        flat[_ATTENTION.format(layer=layer) + "/query/kernel"]
        for layer in range(fields["num_layers"])
    ]
    counts = tuple(kernel.shape[1] for kernel in kernels)
    if counts == heads_of_layers(fields["num_heads"], fields["num_layers"]):
        return model
    attention = attention_fields(fields.get("attention", "auto"))
    fields["attention"] = {**attention, "head_width": kernels[0].shape[2]}
    return model.clone(transformer={**fields, "num_heads": counts})


def _heads_left(flat: Mapping[str, Any], layer: int, gone: Collection[int]) -> np.ndarray:
    kernel = flat.get(_ATTENTION.format(layer=layer) + "/query/kernel")
    if kernel is None:
        raise ConfigError(
            f"heads={{{layer}: …}}: the parameters have no attention in layer {layer}"
        )
    count = kernel.shape[1]
    if wrong := sorted(head for head in gone if not 0 <= head < count):
        raise ConfigError(
            f"heads={{{layer}: {wrong}}}: layer {layer} has the heads 0 to {count - 1}"
        )
    keep = np.array([head for head in range(count) if head not in gone], np.int32)
    if not len(keep):
        raise ConfigError(
            f"heads={{{layer}: {sorted(gone)}}}: layer {layer} must keep at least one of its "
            f"{count} heads"
        )
    return keep
