"""Orbax's writer of a run's steps, with the settings that its own defaults lack."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax.checkpoints.orbax_errors import hush

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
