"""Orbax's writer of a run's steps, with the settings that its own defaults lack."""

import json
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import trees
from vit_jax.checkpoints import fit
from vit_jax.checkpoints.orbax_errors import hush, reason
from vit_jax.errors import CheckpointError
from vit_jax.trees import Tree

# Bytes. Devices that hold the same array write a part of it each, and Orbax cuts each part by a
# program of its own: for eight devices and a ViT 200 of them, compiled while training stands still.
# Smaller parts than this are not worth it: one device writes the whole array.
_SMALLEST_PART = 2**20


def make_writer() -> ocp.AsyncCheckpointer:
    """Returns what writes the items `state` and `metadata` of a step; to be closed."""
    hush()
    handlers = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler(
            min_slice_bytes_for_replica_parallel=_SMALLEST_PART
        )),
        (np.ndarray, ocp.type_handlers.NumpyHandler()),
    )  # fmt: skip
    # Else an exit without `close` hangs, waiting for folders that no thread will make.
    options = ocp.AsyncOptions(create_directories_asynchronously=False)
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(async_options=options),
        state=ocp.PyTreeCheckpointHandler(type_handler_registry=handlers),
        metadata=ocp.JsonCheckpointHandler(),
    )
    return ocp.AsyncCheckpointer(handler, async_options=options)


def written(step: int, state: Tree, metadata: dict[str, Any]) -> ocp.args.Composite:
    """Returns what Orbax is to write: plain nested dicts, so that no class is needed to read.

    Raises:
        CheckpointError: the step is negative; a leaf or the metadata cannot be stored.
    """
    if step < 0:
        raise CheckpointError(f"step {step} cannot be saved; steps count updates from 0")
    flat = trees.flatten(state)
    assert len(flat) == len(jax.tree_util.tree_leaves(state)), "two leaves have one path"
    for path, leaf in flat.items():
        if rule := fit.unstorable(leaf):
            raise CheckpointError(f"step {step} cannot be saved: {path} is {rule}")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"step {step} cannot be saved: its metadata is not JSON ({reason(error)}); "
            "give it as numbers, strings, lists and dicts"
        ) from error
    return ocp.args.Composite(
        state=ocp.args.PyTreeSave(trees.unflatten(flat)), metadata=ocp.args.JsonSave(metadata)
    )
