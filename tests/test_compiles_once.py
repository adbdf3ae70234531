"""A run compiles each of its programs once, however long it goes on."""

import jax.monitoring
import pytest

from tests import pair_runs, runs
from vit_jax.records.loggers import Console, Recorder
from vit_jax.train import train

COMPILED = "/jax/core/compile/backend_compile_duration"  # also where a cache had the program


@pytest.fixture
def compilations(monkeypatch):
    """After which step each program was compiled."""
    step, seen = [0], []
    push = Recorder.push

    def push_and_count(self, now, measured):
        step[0] = now
        push(self, now, measured)

    def heard(event, *_, **__):
        if event == COMPILED:
            seen.append(step[0])

    monkeypatch.setattr(Recorder, "push", push_and_count)
    jax.monitoring.register_event_duration_secs_listener(heard)
    yield seen
    jax.monitoring.unregister_event_duration_listener(heard)


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
    assert set(compilations) == first | {5, 10}
