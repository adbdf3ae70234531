"""The run's folder, the trees of arrays, and the signals that stop a run."""

import json
import os
import signal
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests import runs
from vit_jax import trees
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.runtime.signals import StopSignals
from vit_jax.workdir import Workdir, find_run


def test_settings_that_change_numbers_are_refused(tmp_path):
    place = Workdir(tmp_path)
    place.check(runs.tiny_config())  # a new folder
    place.write_config(runs.tiny_config())
    place.check(runs.tiny_config())
    place.check(runs.tiny_config(batch_eval=7, keep_checkpoints=5))
    with pytest.raises(ConfigError, match=r"base_lr 0\.001 -> 0\.5"):
        place.check(runs.tiny_config(base_lr=0.5, seed=1))
    # Images that stay on the device are cropped there, others on the host: by other draws.
    with pytest.raises(ConfigError, match=r"cache_bytes 1073741824 -> 0"):
        place.check(runs.tiny_config(cache_bytes=0))


def test_a_setting_that_an_older_run_did_not_know_had_its_default(tmp_path):
    place = Workdir(tmp_path)
    place.write_config(runs.tiny_config())
    old = place.read_config()
    del old["loss"], old["keep_every"]
    place.config.write_text(json.dumps(old))
    assert place.check(runs.tiny_config()) == {}
    with pytest.raises(ConfigError, match=r"loss 'softmax' -> 'sigmoid'"):
        place.check(runs.tiny_config(loss="sigmoid"))


def test_a_file_is_no_workdir_and_a_broken_config_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        Workdir(tmp_path / "file").check(runs.tiny_config())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not readable"):
        Workdir(tmp_path).check(runs.tiny_config())


def test_find_run_takes_a_workdir_or_a_step(tmp_path):
    (tmp_path / "run" / "checkpoints" / "12").mkdir(parents=True)
    place, step = find_run(tmp_path / "run")
    assert (place.root, step) == (tmp_path / "run", None)
    place, step = find_run(tmp_path / "run" / "checkpoints" / "12")
    assert (place.root, step) == (tmp_path / "run", 12)
    with pytest.raises(CheckpointError, match="did you mean 'run'"):
        find_run(tmp_path / "rum")
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        find_run(tmp_path)


def test_first_signal_is_noted_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        assert (signals.received, signals.exit_code) == (None, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        signals.obeyed = signals.received
        assert signals.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from vit_jax.runtime.signals import StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('second')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "first\n"


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": {"b": np.ones(2), "c": np.zeros(())}, "d": np.arange(3)}
    flat = trees.flatten(tree)
    assert list(flat) == ["a/b", "a/c", "d"]
    assert trees.difference(trees.unflatten(flat), tree) == []
    assert trees.count(tree) == 6
    assert trees.nbytes({"x": np.zeros((2, 3), ml_dtypes.bfloat16)}) == 12


def test_difference_sees_every_bit():
    left = {"a": np.array([0.0, np.nan]), "b": np.ones(2, np.float32)}
    assert trees.difference(left, {"a": np.array([0.0, np.nan]), "b": left["b"]}) == []
    assert trees.difference(left, {"a": np.array([-0.0, np.nan]), "b": left["b"]}) == [
        "! a: values differ"
    ]
    assert trees.difference(left, {"b": np.ones(2), "c": np.ones(1)}) == [
        "! b: float32(2,) against float64(2,)", "+ c", "- a"
    ]  # fmt: skip


def test_digest_tells_trees_apart():
    tree = {"a": jnp.ones(2), "b": {"c": jnp.zeros(2)}}
    same = {"b": {"c": np.zeros(2, np.float32)}, "a": np.ones(2, np.float32)}
    assert trees.digest(tree) == trees.digest(same)
    renamed = {"a": tree["a"], "b": {"d": tree["b"]["c"]}}
    changed = {"a": tree["a"], "b": {"c": tree["b"]["c"].at[1].set(-0.0)}}
    assert len({trees.digest(t) for t in (tree, renamed, changed)}) == 3


def test_a_decay_that_is_left_open_stays_that_of_the_run(tmp_path):
    place = Workdir(tmp_path)
    place.write_config(runs.tiny_config(optimizer="adamw", beta2=0.95))
    open_, other = (runs.tiny_config(optimizer="adamw", beta2=beta2) for beta2 in (None, 0.9))
    assert place.check(place.inherited(open_)) == {}
    with pytest.raises(ConfigError, match=r"beta2 0.95 -> 0.9"):
        place.check(place.inherited(other))
