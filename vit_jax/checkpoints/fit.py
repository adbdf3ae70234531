"""Whether a leaf can be stored, and whether a stored state fits the one that is wanted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.errors import CheckpointError

_LISTED = 3  # differences named in one error


def unstorable(leaf: Any) -> str | None:
    """Returns what `leaf` is that a checkpoint cannot hold, and what to do; or None."""
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return f"a {type(leaf).__name__}, not an array; wrap it in jnp.asarray"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "a typed random key; give its jax.random.key_data"
    if leaf.size == 0:
        return f"an array without elements {leaf.shape}, which Orbax cannot hold; drop it"
    return None


def check(folder: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares {path: leaf with shape and dtype} of a step with the leaves wanted of it.

    Orbax would cast dtypes without a word, and can pad and cut shapes.

    Raises:
        CheckpointError: a path, a shape or a dtype differs, or a shape does not divide as its
            sharding asks; it names the first of them.
    """
    lines = [f"{path} is not in the checkpoint" for path in wanted if path not in saved]
    lines += [f"{path} is only in the checkpoint" for path in saved if path not in wanted]
    both = (path for path in wanted if path in saved)
    lines += [reason for path in both if (reason := _misfit(path, saved[path], wanted[path]))]
    if lines:
        more = f"; and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        raise CheckpointError(
            f"{folder} does not fit this model and optimiser: {'; '.join(lines[:_LISTED])}{more}; "
            "use the config it was trained with, or another workdir"
        )


def _misfit(path: str, saved: Any, wanted: Any) -> str | None:
    was, now = (f"{leaf.dtype}{list(leaf.shape)}" for leaf in (saved, wanted))
    if was != now:
        return f"{path} was saved as {was}, not {now}"
    sharding = getattr(wanted, "sharding", None)
    try:
        if sharding is not None:
            sharding.shard_shape(tuple(wanted.shape))
    except ValueError:
        return f"{path} {now} cannot be divided as {sharding} asks"
    return None
