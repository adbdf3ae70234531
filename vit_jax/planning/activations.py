"""What the backward pass needs of the forward pass: bytes for each image, from shapes alone.

Counted is what matrix products and norms need again, as fused elementwise operations are computed
again: the inputs of every product and norm, queries, keys and values, what an MLP's activation was
given, and, where attention is plain, its weights. Masks of dropout are not counted.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax.mesh import tensor_axis
from vit_jax.models.summary import Shape, Shapes, rows_of

_BLOCK = re.compile(r".*?(encoderblock|MixerBlock)_\d+")
_SOFTMAX_BYTES = 4  # it is float32 always


@dataclasses.dataclass(frozen=True)
class Kept:
    """Bytes of one image that the forward pass leaves.

    Attributes:
      block: path of the Transformer or Mixer block; None outside of them.
      size: bytes.
      split: whether the axis `tensor` splits them, as heads or MLP columns.
      needed: whether the backward pass needs them.
      product: "batched" for a product of two activations, "plain" for one with a kernel, None for
        anything else.
    """

    block: str | None
    size: float | int
    split: bool = False
    needed: bool = True
    product: str | None = None


def block_of(path: str) -> str | None:
    """Returns the path of the block that a parameter lies in; None outside of all blocks."""
    match = _BLOCK.match(path)
    return match[0] if match else None


def kept_by_layers(shapes: Shapes, itemsize: int, *, plain_attention: bool) -> list[Kept]:
    """Returns what each layer leaves.

    Args:
      shapes: of a model, as `shapes_of_layers` gives them.
      itemsize: bytes of a number in the dtype of the computation.
      plain_attention: whether the weights of attention are held; a fused kernel holds none.
    """
    params, outputs = shapes
    kept = []
    for path, leaf in params.items():
        module, _, name = path.rpartition("/")
        if name == "scale":
            split = tensor_axis(path, len(leaf.shape)) is not None
            kept.append(Kept(block_of(path), itemsize * math.prod(outputs[module]), split))
        if name == "kernel":
            kept += _of_kernel(path, leaf.shape, outputs, itemsize)
            if module.endswith("/query") and plain_attention:
                kept.append(_weights(module, leaf.shape, outputs, itemsize))
    return kept


def _of_kernel(
    path: str, shape: Shape, outputs: Mapping[str, Any], itemsize: int
) -> Iterable[Kept]:
    """What is kept around one product: its input, and its result where that is needed again."""
    module, block = path.removesuffix("/kernel"), block_of(path)
    rows, kind = rows_of(module, shape, outputs), module.rpartition("/")[2]
    axis = tensor_axis(path, len(shape))
    to_heads = kind in ("query", "key", "value")
    width = math.prod(shape[1:] if to_heads else shape[-1:])
    if kind not in ("key", "value"):  # they have the query's input
        patches = kind in ("embedding", "stem")
        depth = shape[-2] if len(shape) == 4 and not patches else math.prod(shape) // width
        yield Kept(block, itemsize * rows * depth, split=axis == 0)
    activated = kind in ("Dense_0", "proj_in", "gate")
    needed = to_heads or activated
    split = axis is not None and axis > 0
    yield Kept(block, itemsize * rows * width, split, needed, product="plain")


def _weights(module: str, shape: Shape, outputs: Mapping[str, Any], itemsize: int) -> Kept:
    queries = rows_of(module, shape, outputs)
    keys = rows_of(module.removesuffix("query") + "key", shape, outputs)
    # In lower precision the product with the values has a rounded copy.
    itemsizes = _SOFTMAX_BYTES + (itemsize if itemsize < _SOFTMAX_BYTES else 0)
    size = itemsizes * queries * keys * shape[1]
    return Kept(block_of(module), size, split=True, product="batched")


def kept_bytes(kept: Iterable[Kept], tensor: int, remat: str | None) -> float | int:
    """Returns the bytes of one image that a device holds when the backward pass begins.

    Args:
      kept: of all layers.
      tensor: devices that share heads and MLPs.
      remat: what is kept of a block, by the name of the setting; beside it, the one block that is
        computed again is held whole.
    """
    kept = list(kept)

    def total(chosen: Iterable[Kept]) -> float | int:
        return sum(one.size / (tensor if one.split else 1) for one in chosen)

    needed = [one for one in kept if one.needed]
    if remat in (None, "everything_saveable"):
        return total(needed)
    blocks = sorted({one.block for one in kept if one.block})
    products = {"dots_saveable": ("plain", "batched")}.get(remat, ("plain",))
    if remat == "nothing_saveable":
        products = ()
    outside = total(one for one in needed if not one.block)
    saved = total(one for one in kept if one.block and one.product in products)
    # A block's own input is as large as that of its first norm.
    inputs = sum(_first(kept, block) for block in blocks)
    largest = max(total(one for one in needed if one.block == block) for block in blocks)
    return outside + saved + inputs + largest


def _first(kept: Iterable[Kept], block: str) -> float | int:
    return next(one.size for one in kept if one.block == block and not one.product)
