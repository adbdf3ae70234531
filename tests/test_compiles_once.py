"""A run compiles each of its programs once, however long it goes on."""

import jax.monitoring
import pytest

from tests import runs
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


def test_nothing_is_compiled_after_the_first_evaluation(compilations, tmp_path):
    """It is after step 10; then come the end of an epoch, saves, two more evaluations."""
    train(runs.tiny_config(ema_decay=0.9), str(tmp_path), Console(quiet=True))
    assert compilations  # the listener hears
    assert max(compilations) == 10
