"""A small state of a run, and the question whether a directory gives it back."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vit_jax import trees
from vit_jax.checkpoints.store import Store

TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mu_dtype=jnp.bfloat16))


class State(struct.PyTreeNode):
    """What a run saves: see DESIGN §7."""

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    batch_stats: dict[str, Any]
    ema: dict[str, Any] | None = None


def make_state(step: int) -> State:
    """Returns a state whose every number depends on `step`."""
    key = jax.random.fold_in(jax.random.key(0), step)
    params = {"head": {"kernel": jax.random.normal(key, (16, 8)), "bias": jnp.full(8, step / 7)}}
    grads = jax.tree.map(jnp.sin, params)
    _, opt_state = TX.update(grads, TX.init(params), params)
    return State(jnp.int32(step), params, opt_state, batch_stats={})


def abstract(state: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_restores(directory: Path, step: int) -> None:
    """Asserts that the newest good step is `step`, and every bit of it."""
    restored = Store(directory).restore(abstract(make_state(0)))
    assert restored is not None
    assert (restored.step, restored.metadata) == (step, {"step": step})
    assert trees.difference(restored.state, make_state(step)) == []
