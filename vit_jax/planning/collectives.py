"""What the devices of a mesh send each other in a training step, from shapes and rules alone.

Parameters that `fsdp` splits are gathered (with remat, and where blocks are a loop, a block's are
again), and their gradients reduced and scattered; gradients are summed along `data`
(arXiv:2004.13336); activations are summed along `tensor` behind each product whose rows are split,
and in the backward pass before each whose columns are (arXiv:1909.08053, section 3).
`partitioned.py` counts them in a compiled program.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping

from jax.sharding import AbstractMesh

from vit_jax.mesh import partition, tensor_axis
from vit_jax.models.summary import Shape, Shapes, rows_of
from vit_jax.planning.activations import block_of

GATHER, SCATTER, REDUCE = "all-gather", "reduce-scatter", "all-reduce"
_FLOAT32 = 4

Found = dict[tuple[str, str, str], list[float | int]]  # (kind, axis, what): bytes of each array


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a step, along one axis of the mesh.

    Attributes:
      kind: all-gather, reduce-scatter or all-reduce.
      axis: the mesh axis, or several joined by "+".
      what: parameters, gradients or activations.
      count: how many, one for each array; a compiler may join some.
      bytes: of the arrays as each device has them: gathered, or before they are reduced.
      devices: that take part in each.
    """

    kind: str
    axis: str
    what: str
    count: int
    bytes: float | int
    devices: int

    @property
    def sent(self) -> float | int:
        """Bytes that a device sends, by a ring (the least there is for large arrays)."""
        once = self.bytes * (self.devices - 1) / self.devices
        return 2 * once if self.kind == REDUCE else once


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step is given.

    Attributes:
      images: of a batch, over all devices.
      parts: it is computed in.
      itemsize: bytes of a number in the dtype of the computation.
      remat: whether the blocks' forward pass is computed again.
      loop: whether the blocks are a loop, which gathers their parameters in each pass.
      merged: whether query, key and value are one product.
    """

    images: int
    parts: int = 1
    itemsize: int = 2
    remat: bool = False
    loop: bool = False
    merged: bool = False


def step_collectives(shapes: Shapes, mesh: AbstractMesh, work: Work) -> tuple[Collective, ...]:
    """Returns the collectives of a training step; those of a few numbers are left out.

    Args:
      shapes: of the model, as `shapes_of_layers` gives them.
      mesh: the devices.
      work: what the step is given.
    """
    params, outputs = shapes
    found: Found = collections.defaultdict(list)
    for path, leaf in params.items():
        _of_parameter(found, path, leaf.shape, mesh, work)
        if mesh.shape["tensor"] > 1 and path.endswith("/kernel"):
            _of_activations(found, path, leaf.shape, outputs, mesh, work)
    return tuple(
        Collective(kind, axis, what, len(sizes), sum(sizes), _devices(mesh, axis))
        for (kind, axis, what), sizes in sorted(found.items())
    )


def _devices(mesh: AbstractMesh, axis: str) -> int:
    return math.prod(mesh.shape[name] for name in axis.split("+"))


def _of_parameter(
    found: Found,
    path: str,
    shape: Shape,
    mesh: AbstractMesh,
    work: Work,
) -> None:
    """Gathers of a parameter, and sums of its gradient."""
    axes = partition(mesh, path, shape)
    size = _FLOAT32 * math.prod(shape) / (mesh.shape["tensor"] if "tensor" in axes else 1)
    if "fsdp" in axes:
        again = _gathered_again(work) if block_of(path) else 0
        found[GATHER, "fsdp", "parameters"] += [size] * (1 + again)
        found[SCATTER, "fsdp", "gradients"] += [size] * work.parts
        if mesh.shape["data"] > 1:
            size /= mesh.shape["fsdp"]
            found[REDUCE, "data", "gradients"] += [size] * work.parts
        return
    over = [name for name in ("data", "fsdp") if mesh.shape[name] > 1]
    if over:
        found[REDUCE, "+".join(over), "gradients"] += [size] * work.parts


def _gathered_again(work: Work) -> int:
    """Returns how often a block's parameters are gathered after the first time.

    Forward once for all parts: XLA takes what does not change out of the loop over them, but not
    what the loop over blocks cuts out of all of theirs.
    """
    if work.loop:
        return 2 * work.parts - 1
    return work.parts if work.remat else 0


def _of_activations(
    found: Found,
    path: str,
    shape: Shape,
    outputs: Mapping[str, Shape],
    mesh: AbstractMesh,
    work: Work,
) -> None:
    """Sums of a product's result, or of the gradient of its input, along `tensor`."""
    axis = tensor_axis(path, len(shape))
    if axis is None or "tensor" not in partition(mesh, path, shape):
        return
    module = path.removesuffix("/kernel")
    kind = module.rpartition("/")[2]
    rows = rows_of(module, shape, outputs) * work.images / work.parts
    rows /= mesh.shape["data"] * mesh.shape["fsdp"]
    width = shape[-1] if axis == 0 else shape[0]
    size = work.itemsize * rows * width
    if kind == "gate":  # its input is split too: put together for it, and its gradient split again
        found[GATHER, "tensor", "activations"] += [size] * work.parts
        found[SCATTER, "tensor", "activations"] += [size] * work.parts
    elif axis == 0:
        again = work.remat and kind == "out" and block_of(path) is not None
        found[REDUCE, "tensor", "activations"] += [size] * (1 + again) * work.parts
    elif not (work.merged and kind in ("key", "value")):
        found[REDUCE, "tensor", "activations"] += [size] * work.parts
