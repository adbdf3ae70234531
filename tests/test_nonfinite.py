"""Steps that overflow: never kept, named in a dump, and skipped only under a bound."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs
from vit_jax import training_program, trees
from vit_jax.checkpoints.store import Store
from vit_jax.data.sampling import training_rows
from vit_jax.errors import NonFiniteError
from vit_jax.inspecting.divergence import compare
from vit_jax.nonfinite import FINITE_LEAVES, KEPT, NonFiniteGuard
from vit_jax.optim import make_schedule
from vit_jax.records.loggers import Console
from vit_jax.train import train

BATCHES = {"total_steps": 12, "eval_every": 12, "checkpoint_every": 4, "ema_decay": 0.9}


@pytest.fixture
def overflow(monkeypatch):
    """Makes the learning rate infinite at chosen steps (from 1): the parameters would be, too."""

    def at(*steps):
        def schedule(*arguments):
            real = make_schedule(*arguments)

            def broken(step):
                bad = jnp.isin(jnp.asarray(step) + 1, jnp.array(steps))
                return jnp.where(bad, jnp.inf, real(step))

            return broken

        monkeypatch.setattr(training_program, "make_schedule", schedule)

    return at


def _train(workdir, **changes):
    return train(runs.tiny_config(**{**BATCHES, **changes}), str(workdir), Console(quiet=True))


def test_a_run_stops_and_tells_all_of_the_step(tmp_path, overflow):
    overflow(6)
    with pytest.raises(NonFiniteError, match=r"step 6: learning_rate=inf.*report/nonfinite\.json"):
        _train(tmp_path)
    told = json.loads((tmp_path / "report" / "nonfinite.json").read_text())
    assert told["step"] == 6
    assert told["examples"] == training_rows(0, 5, 64, 1442)[1].tolist()
    assert told["learning_rate"] == "inf"
    assert math.isfinite(told["loss"] + told["grad_norm"])
    assert told["nonfinite_gradients"] == []
    assert runs.last_saved(tmp_path).step == 4
    assert [line["step"] for line in runs.metrics_of(tmp_path)] == [1, 2, 3, 4, 5]


def test_what_is_skipped_leaves_no_trace_and_is_counted(tmp_path, overflow):
    overflow(3, 5, 6)
    _train(tmp_path, nonfinite="skip")
    restored = runs.last_saved(tmp_path)
    assert all(np.isfinite(np.float64(x)).all() for x in trees.flatten(restored.state).values())
    assert restored.metadata["nonfinite"] == {"total": 3, "row": 0}
    lines = [line for line in runs.metrics_of(tmp_path) if "loss" in line]
    counts = [int(line["nonfinite_steps"]) for line in lines]
    assert counts == [0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()
    # The rate in the file is the one that was used, though the moments saw fewer steps.
    counts = {path: int(x) for path, x in trees.flatten(restored.state).items() if "count" in path}
    assert sorted(counts.values()) == [9, 12]
    assert counts["opt_state/3/count"] == 12  # of the schedule


def test_the_count_survives_a_resume_bit_for_bit(tmp_path, overflow, monkeypatch):
    overflow(3, 5, 6)
    settings = {"nonfinite": "skip", "state_digests": True}
    _train(tmp_path / "whole", **settings)
    save = Store.save

    def save_and_die(self, step, state, metadata):
        save(self, step, state, metadata)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path / "cut", **settings)
    assert runs.last_saved(tmp_path / "cut").metadata["nonfinite"] == {"total": 1, "row": 0}
    _train(tmp_path / "cut", **settings)
    found = compare(tmp_path / "whole", tmp_path / "cut")
    assert (found.differs, found.lines[2]) == (
        False,
        "digests      the same, 12 steps from 1 to 12",
    )
    restored = runs.last_saved(tmp_path / "cut")
    last = json.loads((tmp_path / "cut" / "digests.jsonl").read_text().splitlines()[-1])
    assert restored.metadata["state_digest"] == last["state_digest"]


@pytest.mark.parametrize(
    ("limits", "step"), [({"nonfinite_limit": 2}, 6), ({"nonfinite_row_limit": 1}, 6)]
)
def test_the_policy_has_bounds(limits, step, tmp_path, overflow):
    overflow(3, 5, 6)
    name = next(iter(limits))
    with pytest.raises(NonFiniteError, match=rf"step {step}: .*config\.{name}="):
        _train(tmp_path, nonfinite="skip", **limits)


def test_leaves_are_named_and_nan_is_text(tmp_path):
    dump = tmp_path / "report" / "nonfinite.json"
    guard = NonFiniteGuard("stop", 1, 1, ["a/kernel", "b/bias"], lambda step: [7, step], dump)
    measured = {"loss": np.float32(np.nan), "grad_norm": np.float32(np.inf)}
    with pytest.raises(NonFiniteError, match="step 9: loss=nan, grad_norm=inf is not finite"):
        guard(9, measured | {KEPT: False, FINITE_LEAVES: np.array([True, False])})
    told = json.loads(dump.read_text())
    assert told["nonfinite_gradients"] == ["b/bias"]
    assert (told["loss"], told["grad_norm"], told["examples"]) == ("nan", "inf", [7, 9])


def test_a_disk_that_takes_no_dump_decides_nothing(tmp_path, caplog):
    (tmp_path / "report").write_text("in the way")
    dump = tmp_path / "report" / "nonfinite.json"
    measured = {"loss": np.float32(np.nan), KEPT: False, FINITE_LEAVES: np.array([True])}
    skipping = NonFiniteGuard("skip", 9, 9, ["b/bias"], lambda step: [], dump)
    skipping(1, dict(measured))
    assert skipping.total == 1
    assert "nonfinite.json cannot be written (" in caplog.text
    stopping = NonFiniteGuard("stop", 9, 9, ["b/bias"], lambda step: [], dump)
    with pytest.raises(NonFiniteError, match=r"step 1: loss=nan is not finite; .* kept\. Lower"):
        stopping(1, dict(measured))


def test_what_is_wrong_is_named():
    guard = NonFiniteGuard("stop", 10, 3, ["b/bias"], lambda step: [])
    fine = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 0.1}
    for changes, says in (
        ({"loss": math.nan}, "loss=nan is not finite"),
        (
            {"learning_rate": 2e9},
            r"learning_rate=2e\+09 is above 1e\+09, where",
        ),
        ({}, "batch statistics"),
    ):
        with pytest.raises(NonFiniteError, match=f"^step 4: .*{says}"):
            guard(4, {**fine, **changes, KEPT: False, FINITE_LEAVES: np.array([True])})
