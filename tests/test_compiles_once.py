"""A run compiles each of its programs once, however long it goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import pair_runs, runs
from vit_jax.checkpoints.store import Store
from vit_jax.records.loggers import Console, Recorder
from vit_jax.train import train

COMPILED = "/jax/core/compile/backend_compile_duration"  # also where a cache had the program


@contextmanager
def listening(act: Callable[[object], None]) -> Iterator[None]:
    """Calls `act` with the name of each program that is compiled."""

    def heard(event: str, *_: object, fun_name: object = None, **__: object) -> None:
        if event == COMPILED:
            act(fun_name)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


@pytest.fixture
def compilations(monkeypatch):
    """After which step each program was compiled, and what it is called."""
    step, seen = [0], []
    push = Recorder.push

    def push_and_count(self, now, measured):
        step[0] = now
        push(self, now, measured)

    monkeypatch.setattr(Recorder, "push", push_and_count)
    with listening(lambda name: seen.append((step[0], name))):
        yield seen


@pytest.mark.parametrize(
    ("config", "first"),
    # After step 1 the contact sheet is computed, which pairs have not.
    [(runs.tiny_config, {0, 1}), (pair_runs.tiny_config, {0})],
)
def test_nothing_is_compiled_after_the_first_evaluation(config, first, compilations, tmp_path):
    """It is after step 10; then come the end of an epoch, saves, two more evaluations.

    After step 5 comes the first save, with a digest of the state.
    """
    train(config(ema_decay=0.9), str(tmp_path), Console(quiet=True))
    assert {step for step, _ in compilations} == first | {5, 10}
    # The step is compiled beside the initial values, from the shapes of its batches alone.
    assert [name for _, name in compilations].count("jit(step)") == 1


def test_saving_and_restoring_on_many_devices_compiles_nothing(tmp_path: Path) -> None:
    """Orbax by itself cuts every array in eight, by a program for each shape and device."""
    everywhere = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec())
    host = {f"size {n}": np.arange(8 * n, dtype=np.float32).reshape(8, n) for n in range(1, 6)}
    state = jax.block_until_ready(jax.device_put(host, everywhere))
    seen = []
    with listening(seen.append), Store(tmp_path) as store:
        store.save(1, state, {})
        store.wait()
        restored = store.restore(jax.tree.map(lambda x: x, state))
    assert restored is not None
    assert len(seen) == 0
    for name, leaf in restored.state.items():
        assert leaf.sharding == everywhere
        assert all(jnp.array_equal(shard.data, host[name]) for shard in leaf.addressable_shards)
