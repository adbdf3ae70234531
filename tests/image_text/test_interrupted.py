"""Image-text runs that are killed, or tuned by two processes, on captions from tar shards."""

import pytest

from tests import crash, jobs, pair_runs, runs
from tests.data import caption_sets
from vit_jax.config import to_json
from vit_jax.records.loggers import Console
from vit_jax.train import train

pytestmark = pytest.mark.slow  # whole runs, some in processes of their own

# An epoch of 20 pairs has 2.5 steps: each reads the end of one and the start of the next.
SIZES = {"batch": 8, "batch_eval": 8, "pp": {"crop": 8}}


@pytest.fixture
def shards(tmp_path):
    counts = {"train-000.tar": 11, "train-001.tar": 9, "test-000.tar": 6}
    return caption_sets.shards(tmp_path / "shards", counts)


@pytest.fixture
def tower(tmp_path):
    """The workdir of a classifier, to take the image tower from."""
    config = runs.tiny_config(total_steps=2, warmup_steps=1, eval_every=2)
    train(config, str(tmp_path / "tower"), Console(quiet=True))
    return tmp_path / "tower"


@pytest.mark.parametrize("precompute", [True, False])
def test_a_killed_run_with_a_locked_tower_ends_with_the_same_bits(
    shards, tower, tmp_path, precompute
):
    """Its vectors come from the cache, or from each batch; 13 is no step with a checkpoint."""
    settings = {
        **pair_runs.TINY, **SIZES, "captions": "files", "dataset": str(shards),
        "model_or_filename": str(tower), "lock_image": True, "locked_dtype": "bfloat16",
        "precompute": precompute, "ema_decay": 0.9,
        "model": {"transformer": {"dropout_rate": 0.0}},
    }  # fmt: skip
    crash.finish(tmp_path / "whole", settings)
    crash.kill(tmp_path / "killed", 13, settings)
    crash.finish(tmp_path / "killed", settings)
    assert runs.differences(tmp_path / "whole", tmp_path / "killed", 30) == []


def test_two_processes_tune_as_one_does(shards, tmp_path):
    """Each reads its own rows of the shards; losses are over the pairs of both."""
    config = pair_runs.tiny_config(
        **SIZES, captions="files", dataset=str(shards), loss="sigmoid", total_steps=10,
        eval_every=5, optimizer="sgd",
    )  # fmt: skip
    file = jobs.recipe(tmp_path, to_json(config))
    ends = {}
    for processes in (1, 2):
        command = ["train", f"--config={file}", f"--workdir={tmp_path / str(processes)}"]
        for code, output in jobs.run(processes, 2 // processes, command):
            assert code == 0, output
        ends[processes] = runs.metrics_of(tmp_path / str(processes))
    for one, two in zip(ends[1], ends[2], strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    assert ends[1][-1]["test_text_to_image_recall_5"] > 0
