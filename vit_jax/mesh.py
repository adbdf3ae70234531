"""Devices as a mesh with the axes `data`, `fsdp` and `tensor`, and what lies where on it.

The batch is split over `data` and `fsdp`; parameters and optimiser state are held whole along
`data`, in shares along `fsdp`, and split by head and by MLP column along `tensor`.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from vit_jax import trees
from vit_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# Along `tensor`, by the end of a parameter's path: heads and MLP columns are split where they are
# made, and the rows of the projection that joins them again (arXiv:1909.08053, section 3).
_MLP = r"(MlpBlock_\d+|token_mixing|channel_mixing)"
TENSOR_RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"/(query|key|value)/kernel$", PartitionSpec(None, "tensor", None)),
    (r"/(query|key|value)/bias$", PartitionSpec("tensor", None)),
    (r"/out/kernel$", PartitionSpec("tensor", None, None)),
    (rf"{_MLP}/(Dense_0|proj_in|gate)/kernel$", PartitionSpec(None, "tensor")),
    (rf"{_MLP}/(Dense_0|proj_in|gate)/bias$", PartitionSpec("tensor")),
    (rf"{_MLP}/norm_gate/(scale|bias)$", PartitionSpec("tensor")),
    (rf"{_MLP}/(Dense_1|proj_out)/kernel$", PartitionSpec("tensor", None)),
)


def axis_sizes(
    devices: int, data: int | None = None, fsdp: int = 1, tensor: int = 1
) -> tuple[int, int, int]:
    """Returns how many devices lie along each axis.

    Args:
      devices: all of them.
      data: devices along `data`; None takes what the other two leave.
      fsdp: devices along `fsdp`.
      tensor: devices along `tensor`.

    Raises:
      ConfigError: the product is not the number of devices.
    """
    if data is None:
        data = max(devices // (fsdp * tensor), 1)
    if data * fsdp * tensor != devices:
        raise ConfigError(
            f"config.mesh: data={data} x fsdp={fsdp} x tensor={tensor} must be the number of "
            f"devices, {devices}"
        )
    return data, fsdp, tensor


def make_mesh(data: int | None = None, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Returns the mesh over all devices; the arguments are those of `axis_sizes`.

    Raises:
      ConfigError: the product is not the number of devices.
    """
    sizes = axis_sizes(jax.device_count(), data, fsdp, tensor)
    # Linen modules need Auto axes: jax.make_mesh would make Explicit ones.
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)


def mesh_as_trained(fsdp: int, tensor: int) -> Mesh:
    """Returns the mesh over all devices at hand that splits a model as the run's did.

    Args:
      fsdp, tensor: of the run. Where the devices are too few, or do not divide by them, the
        largest part of each that fits is taken: what divided the parameters still does.
    """
    devices = jax.device_count()
    tensor = math.gcd(tensor, devices)
    return make_mesh(None, math.gcd(fsdp, devices // tensor), tensor)


def local_mesh() -> Mesh:
    """Returns a mesh of the devices of this process alone, all along `data`."""
    devices = jax.local_devices()
    sizes = axis_sizes(len(devices))
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def paper_mesh(sizes: tuple[int, int, int]) -> AbstractMesh:
    """Returns a mesh of so many devices along each axis that need not exist."""
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def local_rows(sharding: NamedSharding, batch: int) -> np.ndarray:
    """Returns which rows of a batch the devices of this process hold, in order.

    Processes whose devices hold the same rows (their mesh is split along `tensor`) all load them.
    """
    held = sharding.addressable_devices_indices_map((batch,)).values()
    return np.unique(np.concatenate([np.arange(batch)[rows] for rows in held]))


def batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Returns the number of parts that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh | AbstractMesh, state: trees.Tree) -> trees.Tree:
    """Returns a NamedSharding for every leaf of a state of arrays or shapes."""
    return trees.map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition(mesh, path, leaf.shape)), state
    )


def sent(array: trees.Tree, sharding: jax.sharding.Sharding) -> jax.Array:
    """Sends an array that all processes hold to the devices, to each its share."""
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def sent_in_shares(mesh: Mesh, tree: trees.Tree) -> trees.Tree:
    """Sends a tree of arrays that all processes hold, to lie as a state of the mesh does."""
    return jax.tree.map(sent, tree, state_sharding(mesh, tree))


def partition(mesh: Mesh | AbstractMesh, path: str, shape: tuple[int, ...]) -> PartitionSpec:
    """Returns along which mesh axes a leaf is split.

    `tensor` by the rules above, where it divides; then `fsdp` along the longest axis left that it
    divides. Optimiser moments end in the path of their parameter, and so lie where it lies.
    """
    axes: list[str | None] = [None] * len(shape)
    if (ruled := tensor_axis(path, len(shape))) is not None:
        axes[ruled] = "tensor" if shape[ruled] % mesh.shape["tensor"] == 0 else None
    if mesh.shape["fsdp"] > 1:
        free = [i for i, n in enumerate(shape) if axes[i] is None and n % mesh.shape["fsdp"] == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*axes)


def tensor_axis(path: str, rank: int) -> int | None:
    """Returns the axis of a leaf that the rules split along `tensor`; None where there is none."""
    for pattern, spec in TENSOR_RULES:
        if re.search(pattern, path) and len(spec) == rank:
            return spec.index("tensor")
    return None


def check_split(mesh: Mesh | AbstractMesh, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ConfigError if an axis of the mesh splits not one parameter of {path: shape}."""
    used = {axis for path, shape in shapes.items() for axis in partition(mesh, path, shape)}
    ruled = {
        shape[axis]
        for path, shape in shapes.items()
        if (axis := tensor_axis(path, len(shape))) is not None
    }
    sizes = {"fsdp": {n for shape in shapes.values() for n in shape}, "tensor": ruled}
    for axis, found in sizes.items():
        if mesh.shape[axis] > 1 and axis not in used:
            what = "heads and MLPs have" if axis == "tensor" else "parameters have"
            raise ConfigError(
                f"config.mesh.{axis}={mesh.shape[axis]}: divides none of the sizes that {what} "
                f"({_sizes(found)}), so nothing would be split; choose a divisor of one of them, "
                "or 1"
            )


def _sizes(sizes: set[int]) -> str:
    largest = sorted(sizes - {1}, reverse=True)[:6]
    return ", ".join(map(str, largest)) or "the model has none"


def device_bytes(tree: trees.Tree) -> int:
    """Returns the bytes of a tree on one device: arrays, or shapes, that have shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree_util.tree_leaves(tree)
    )


def with_split_batch(mesh: Mesh | AbstractMesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with what its layers return split by image over the mesh.

    XLA decides by itself how the intermediate results lie. For wide layers and few images, or in
    the loop over accumulated parts, it would rather move all images to all devices than gather
    parameters that `fsdp` splits; with this it does not.

    Args:
      mesh: of the arguments.
      function: calls linen models with batches; to be traced (`jit`, `eval_shape`).
    """

    def split(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        # A layer's first axis is that of the images, or of all their tokens.
        if context.method_name != "__call__" or not _has_batch(result, mesh):
            return result
        spec = PartitionSpec(BATCH_AXES, *[PartitionSpec.UNCONSTRAINED] * (result.ndim - 1))
        return jax.lax.with_sharding_constraint(result, NamedSharding(mesh, spec))

    @functools.wraps(function)  # its name is that of the program, in profiles
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(split):
            return function(*args, **kwargs)

    return wrapped


def _has_batch(result: Any, mesh: Mesh | AbstractMesh) -> bool:
    return (
        isinstance(result, jax.Array)
        and result.ndim > 1
        and not result.shape[0] % batch_shards(mesh)
    )
