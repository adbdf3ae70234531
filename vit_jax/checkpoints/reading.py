"""Arrays and metadata of one step, as Orbax reads them: to devices, or to the host."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import trees
from vit_jax.checkpoints.orbax_errors import reason
from vit_jax.errors import CheckpointError
from vit_jax.trees import Tree


@dataclass(frozen=True)
class Restored:
    """A checkpoint that has been read: its step, its state and its metadata."""

    step: int
    state: Tree
    metadata: dict[str, Any]


@contextlib.contextmanager
def _reader(folder: Path) -> Iterator[ocp.Checkpointer]:
    items = {"state": ocp.PyTreeCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()}
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**items)) as reader:
            yield reader
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is as it was saved, but Orbax cannot read it ({reason(error)}); "
            "was it saved with another version?"
        ) from error


def saved_arrays(folder: Path) -> dict[str, Any]:
    """Returns {path: something with the shape and dtype of the saved array}."""
    with _reader(folder) as reader:
        items = reader.metadata(folder).item_metadata or {}
        return trees.flatten(items["state"].tree)


def read(folder: Path, wanted: Mapping[str, Any]) -> Restored:
    """Reads the arrays at these paths: to a leaf's sharding, or to the host if it is None."""
    items: dict[str, Any] = {"metadata": ocp.args.JsonRestore()}
    if wanted:
        how = {path: _restore_args(leaf) for path, leaf in wanted.items()}
        items["state"] = ocp.args.PyTreeRestore(
            item=trees.unflatten(dict.fromkeys(wanted, 0)),
            restore_args=trees.unflatten(how),
            partial_restore=True,
        )
    with _reader(folder) as reader:
        restored = reader.restore(folder, args=ocp.args.Composite(**items))
    state = trees.map_with_path(
        lambda path, value: _copied(value, wanted[path]), restored.get("state", {})
    )
    return Restored(int(folder.name), state, restored["metadata"])


def _is_copied(leaf: Any) -> bool:
    """Whether several devices here hold all of it: Orbax would read the file for each of them."""
    sharding = getattr(leaf, "sharding", None)
    return (
        sharding is not None
        and sharding.is_fully_replicated
        and len(sharding.addressable_devices) > 1
    )


def _copied(value: Any, leaf: Any) -> Any:
    """Returns an array that was read once, on all devices that hold it; others as they are."""
    if not _is_copied(leaf):
        return value
    return jax.make_array_from_callback(value.shape, leaf.sharding, lambda index: value[index])


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    if leaf is None or _is_copied(leaf):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(
        restore_type=jax.Array,
        sharding=getattr(leaf, "sharding", None) or default,
        global_shape=tuple(leaf.shape),
        dtype=leaf.dtype,
    )
