"""A run killed with SIGKILL and started again ends with the same bits as one that was not."""

import shutil

import jax
import jax.numpy as jnp
import pytest

from tests import pair_runs, runs
from tests.crash import finish, kill
from tests.runs import differences
from vit_jax.data.pipeline import Feed
from vit_jax.run import Run
from vit_jax.train import train

pytestmark = pytest.mark.slow  # starts whole runs, some in processes of their own

# An epoch has 22.5 steps: step 23 reads the end of one and the start of the next.
SCENARIOS = {
    "at an epoch's edge": (22, {"checkpoint_every": 1}),
    "in the middle of a later epoch": (28, {}),
    "with accumulation": (13, {"accum_steps": 2, "ema_decay": 0.9}),
    "with batch statistics": (13, {"model": {"stem": "conv"}}),
    "with captions": (13, {**pair_runs.TINY, "loss": "sigmoid"}),
    "with all that is drawn": (
        13,
        {
            "sampling": "balanced",
            "augment": {
                "preset": "medium1",
                "mixup": 0.0,
                "repeats": 2,
                "crop_area": (0.2, 1.0),
                "erase": 0.5,
                "cutmix": 1.0,
            },
        },
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_run_ends_with_the_same_bits(name, tmp_path):
    step, settings = SCENARIOS[name]
    finish(tmp_path / "whole", settings)
    kill(tmp_path / "killed", step, settings)
    finish(tmp_path / "killed", settings)
    assert differences(tmp_path / "whole", tmp_path / "killed", 30) == []


def _repeat_a_step(monkeypatch):
    """The step whose result was saved is taken once more."""
    start = Run.start

    def once_more(self, *given):
        state = start(self, *given)
        resumed = int(state.step)
        batch = next(self.experiment.train.training(resumed - 1, resumed))
        repeated, _ = self.step(state.replace(step=state.step - 1), batch)
        return repeated

    monkeypatch.setattr(Run, "start", once_more)


def _reset_the_key(monkeypatch):
    start = Run.start

    def keys_from_zero(self, *given):
        state, step = start(self, *given), self.step
        resumed = int(state.step)

        def shifted(state, batch):
            after, measured = step(state.replace(step=state.step - resumed), batch)
            return after.replace(step=after.step + resumed), measured

        self.step = shifted
        return state

    monkeypatch.setattr(Run, "start", keys_from_zero)


def _restart_the_order(monkeypatch):
    training = Feed.training
    monkeypatch.setattr(Feed, "training", lambda self, first, last: training(self, 0, last - first))


def _forget_the_optimizer(monkeypatch):
    start = Run.start

    def without_moments(self, *given):
        state = start(self, *given)
        fresh = jax.tree.map(
            lambda x: x if x.dtype == jnp.int32 else jnp.zeros_like(x), state.opt_state
        )
        return state.replace(opt_state=fresh)

    monkeypatch.setattr(Run, "start", without_moments)


@pytest.fixture(scope="module")
def killed_and_whole(tmp_path_factory):
    """A killed run to be resumed with defects, and what it should end as."""
    root = tmp_path_factory.mktemp("defects")
    kill(root / "killed", 13, {})
    finish(root / "whole", {})
    return root


@pytest.mark.parametrize(
    "defect", [_repeat_a_step, _reset_the_key, _restart_the_order, _forget_the_optimizer]
)
def test_a_defect_in_resuming_is_noticed(defect, killed_and_whole, tmp_path, monkeypatch):
    """The comparison above can fail: with a mistake seeded into the loop, it does."""
    shutil.copytree(killed_and_whole / "killed", tmp_path / "killed")
    defect(monkeypatch)
    finish(tmp_path / "killed", {})
    found = differences(killed_and_whole / "whole", tmp_path / "killed", 30)
    assert any(line.startswith("! params/") for line in found)


def test_without_a_defect_the_copy_resumes_to_the_same_bits(killed_and_whole, tmp_path):
    shutil.copytree(killed_and_whole / "killed", tmp_path / "killed")
    finish(tmp_path / "killed", {})
    assert differences(killed_and_whole / "whole", tmp_path / "killed", 30) == []


def test_finished_run_is_scored_again_and_not_trained(killed_and_whole, tmp_path, capsys):
    shutil.copytree(killed_and_whole / "whole", tmp_path / "whole")
    before = runs.metrics_of(tmp_path / "whole")
    result = train(runs.tiny_config(), str(tmp_path / "whole"))
    assert result.scores is not None
    assert result.scores["accuracy"] == before[-1]["test_accuracy"]
    assert runs.metrics_of(tmp_path / "whole") == before
    assert "resuming after step 30" in capsys.readouterr().out
