"""A state that does not fit its checkpoint, or cannot be stored, is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.checkpoints.states import State, abstract, make_state
from vit_jax.checkpoints.store import Store
from vit_jax.errors import CheckpointError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace(step=jnp.float32(0)), "step was saved as int32[], not float32[]"),
        (
            lambda s: s.replace(params={"head": {**s.params["head"], "kernel": jnp.ones((16, 9))}}),
            "params/head/kernel was saved as float32[16, 8], not float32[16, 9]",
        ),
        (
            lambda s: s.replace(batch_stats={"mean": jnp.ones(2)}),
            "batch_stats/mean is not in the checkpoint",
        ),
        (
            lambda s: s.replace(params={"head": {"kernel": s.params["head"]["kernel"]}}),
            "params/head/bias is only in the checkpoint",
        ),
        (lambda s: s.replace(opt_state=()), "is only in the checkpoint; and 2 more"),
    ],
    ids=["dtype", "shape", "missing", "extra", "many"],
)
def test_a_state_that_does_not_fit_is_refused(
    directory: Path, change: Callable[[State], State], message: str
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        Store(directory).restore(abstract(change(make_state(0))))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_sharding_that_does_not_divide_is_one_line(directory: Path) -> None:
    mesh = jax.make_mesh((3,), ("x",), (AxisType.Auto,), devices=jax.devices()[:3])
    uneven = NamedSharding(mesh, PartitionSpec("x"))
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=uneven if x.ndim else None),
        make_state(0),
    )
    with pytest.raises(CheckpointError) as refusal:
        Store(directory).restore(target)
    assert "head/bias float32[8] cannot be divided as NamedSharding" in str(refusal.value)


@pytest.mark.parametrize(
    ("step", "state", "metadata", "message"),
    [
        (1, {"a": {"b": 3}}, {}, "a/b is a int, not an array"),
        (1, {"key": jax.random.key(0)}, {}, "key is a typed random key"),
        (1, {"w": np.zeros((0, 3))}, {}, "w is an array without elements"),
        (1, {"w": np.zeros(3)}, {"path": Path("x")}, "metadata is not JSON"),
        (-1, {"w": np.zeros(3)}, {}, "step -1"),
    ],
)
def test_what_cannot_be_saved_is_named(
    tmp_path: Path, step: int, state: Any, metadata: dict[str, Any], message: str
) -> None:
    with Store(tmp_path) as store, pytest.raises(CheckpointError, match=message):
        store.save(step, state, metadata)
    assert list(tmp_path.iterdir()) == []
