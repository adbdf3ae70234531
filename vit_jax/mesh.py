"""Devices as a mesh with the axes `data`, `fsdp` and `tensor`, and what lies where on it.

The batch is split over `data` and `fsdp`; parameters and optimiser state are held whole along
`data`, in shares along `fsdp`, and split by head and by MLP column along `tensor`.
"""

import math
import re

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from vit_jax import trees
from vit_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# Along `tensor`, by the end of a parameter's path: heads and MLP columns are split where they are
# made, and the rows of the projection that joins them again.
TENSOR_RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"(query|key|value)/kernel$", PartitionSpec(None, "tensor", None)),
    (r"(query|key|value)/bias$", PartitionSpec("tensor", None)),
    (r"out/kernel$", PartitionSpec("tensor", None, None)),
    (r"MlpBlock_\d+/Dense_0/kernel$", PartitionSpec(None, "tensor")),
    (r"MlpBlock_\d+/Dense_0/bias$", PartitionSpec("tensor")),
    (r"MlpBlock_\d+/Dense_1/kernel$", PartitionSpec("tensor", None)),
)


def make_mesh(data: int | None = None, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Returns the mesh over all devices.

    Args:
      data: devices along `data`; None takes what the other two leave.
      fsdp: devices along `fsdp`.
      tensor: devices along `tensor`.

    Raises:
      ConfigError: the product is not the number of devices.
    """
    devices = jax.device_count()
    if data is None:
        data = max(devices // (fsdp * tensor), 1)
    if data * fsdp * tensor != devices:
        raise ConfigError(
            f"config.mesh: data={data} x fsdp={fsdp} x tensor={tensor} must be the number of "
            f"devices, {devices}"
        )
    # Linen modules need Auto axes: jax.make_mesh would make Explicit ones.
    return jax.make_mesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def local_rows(sharding: NamedSharding, batch: int) -> np.ndarray:
    """Returns which rows of a batch the devices of this process hold, in order.

    Processes whose devices hold the same rows (their mesh is split along `tensor`) all load them.
    """
    held = sharding.addressable_devices_indices_map((batch,)).values()
    return np.unique(np.concatenate([np.arange(batch)[rows] for rows in held]))


def batch_shards(mesh: Mesh) -> int:
    """Returns the number of parts that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh, state: trees.Tree) -> trees.Tree:
    """Returns a NamedSharding for every leaf of a state of arrays or shapes."""
    return trees.map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition(mesh, path, leaf.shape)), state
    )


def partition(mesh: Mesh, path: str, shape: tuple[int, ...]) -> PartitionSpec:
    """Returns along which mesh axes a leaf is split.

    `tensor` by the rules above, where it divides; then `fsdp` along the longest axis left that it
    divides. Optimiser moments end in the path of their parameter, and so lie where it lies.
    """
    axes: list[str | None] = [None] * len(shape)
    for pattern, spec in TENSOR_RULES:
        if re.search(pattern, path) and len(spec) == len(shape):
            axes = [
                a if a and n % mesh.shape[a] == 0 else None
                for a, n in zip(spec, shape, strict=True)
            ]
    if mesh.shape["fsdp"] > 1:
        free = [i for i, n in enumerate(shape) if axes[i] is None and n % mesh.shape["fsdp"] == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*axes)
