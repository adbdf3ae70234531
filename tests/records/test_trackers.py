"""Trackers get each step once, the settings once and no secrets, from the first process alone."""

import contextlib
import struct
import time
from typing import Any

import pytest

from tests import runs
from vit_jax.errors import ConfigError
from vit_jax.records import trackers
from vit_jax.records.loggers import Console
from vit_jax.records.metrics_file import read_metrics
from vit_jax.train import tracking, train
from vit_jax.workdir import Workdir

SECRET = "https://user:hunter2@example.org/B_16.npz?token=abc#part"


class Listener:
    """Takes in what a tracker is given."""

    def __init__(self, config, place, step, recorded):
        self.started, self.lines, self.closed = (step, recorded), [], None

    def write(self, step, values, timing=None):
        self.lines.append({"step": step, **values, **({"timing": timing} if timing else {})})

    def close(self, *, failed):
        self.closed = failed


@pytest.fixture
def heard(monkeypatch):
    """Puts listeners in the place of TensorBoard; returns those that were started."""
    found: list[Any] = []

    def start(*given):
        found.append(Listener(*given))
        return found[-1]

    monkeypatch.setitem(trackers._KINDS, "tensorboard", start)
    return found


def test_a_run_tells_them_what_it_writes_to_its_file(heard, tmp_path):
    config = runs.tiny_config(total_steps=4, eval_every=2, trackers=("tensorboard",))
    train(config, str(tmp_path), Console(quiet=True))
    (listener,) = heard
    assert listener.lines == read_metrics(tmp_path / "metrics.jsonl")
    assert len(listener.lines) == 6
    assert listener.started == (0, 0)
    assert listener.closed is False


def test_a_resumed_run_says_what_was_recorded_and_an_error_is_passed_on(heard, tmp_path):
    config, place = runs.tiny_config(trackers=("tensorboard",)), Workdir(tmp_path)
    with tracking(config, place, 0, True) as file:
        for step in range(1, 8):
            file.write(step, {"loss": 1.0})
    with pytest.raises(KeyError), tracking(config, place, 5, True) as file:
        raise KeyError
    assert [listener.started for listener in heard] == [(0, 0), (5, 7)]
    assert [listener.closed for listener in heard] == [False, True]
    assert [line["step"] for line in read_metrics(place.metrics)] == [1, 2, 3, 4, 5]


def test_other_processes_have_none(heard, tmp_path):
    config = runs.tiny_config(trackers=("tensorboard",))
    with tracking(config, Workdir(tmp_path), 0, False) as file:
        file.write(1, {"loss": 1.0})
    assert heard == []
    assert list(tmp_path.iterdir()) == []


def test_names_are_grouped():
    assert trackers.named({"loss": 1.0, "test_loss": 2.0}, {"images_per_second": 3.0}) == {
        "train/loss": 1.0, "test/loss": 2.0, "timing/images_per_second": 3.0
    }  # fmt: skip


def test_settings_go_out_without_what_of_a_url_may_be_secret():
    shown = trackers.hyper_parameters(runs.tiny_config(model_or_filename=SECRET))
    assert shown["model_or_filename"] == "https://example.org/B_16.npz"
    assert shown["base_lr"] == 1e-3
    assert "pretrained_dir" not in shown  # None


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_an_extra_that_is_missing_is_one_line(name, module, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    config = runs.tiny_config(trackers=(name,))
    says = rf"config.trackers='{name}' needs {module}.*pip install 'vit_jax\[{name}\]'"
    with pytest.raises(ConfigError, match=says), tracking(config, Workdir(tmp_path), 0, True):
        pass


@pytest.mark.parametrize("wrong", ["wandb,wandb", ("wandb", "wandb"), ("tensorbord",)])
def test_only_those_known_may_be_asked_for_each_once(wrong):
    with pytest.raises(ConfigError, match=r"config.trackers=.* some of tensorboard, wandb"):
        runs.tiny_config(trackers=wrong if isinstance(wrong, tuple) else (wrong,))


def interrupted(config, workdir):
    """Writes seven steps, then goes on from the checkpoint of the fifth to the ninth."""
    for first, last in ((0, 7), (5, 9)):
        with tracking(config, Workdir(workdir), first, True) as file:
            for step in range(first + 1, last + 1):
                file.write(step, {"loss": float(step)}, {"images_per_second": 10.0})


def test_tensorboard_shows_each_step_once_and_the_settings_once(tmp_path):
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="the extra tensorboard")
    config = runs.tiny_config(trackers=("tensorboard",), model_or_filename=SECRET)
    interrupted(config, tmp_path)
    shown: dict[int, float] = {}
    texts = []
    for file in sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime):
        for event in events(file.read_bytes(), proto.Event):
            if event.HasField("session_log"):  # what TensorBoard then does to later steps
                shown = {step: value for step, value in shown.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "train/loss":
                    assert event.step not in shown
                    shown[event.step] = value.simple_value
                elif value.metadata.plugin_data.plugin_name == "text":
                    texts.append(value.tensor.string_val[0].decode())
    assert shown == {step: float(step) for step in range(1, 10)}
    (text,) = texts
    assert "base_lr = 0.001" in text
    assert "hunter2" not in text
    assert "abc" not in text


def events(data, kind):
    """Yields the events of a file of TensorBoard: length, its checksum, content, its checksum."""
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        yield kind.FromString(data[12 : 12 + size])
        data = data[size + 16 :]


def test_weights_and_biases_offline_get_each_step_once_and_the_settings_once(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    config = runs.tiny_config(trackers=("wandb",), model_or_filename=SECRET)
    interrupted(config, tmp_path)
    files = sorted((tmp_path / "wandb").rglob("*.wandb"), key=lambda path: path.stat().st_mtime)
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # one run, resumed
    wait_for_the_end(files)
    found = [list(records(file)) for file in files]
    steps = [int(one.history.step.num) for file in found for one in file if one.history.item]
    assert steps == [*range(1, 10)]
    settings = ["base_lr" in str(file) for file in found]
    assert settings == [True, False]
    for path in (tmp_path / "wandb").rglob("*"):
        if path.is_file():
            for secret in (b"hunter2", b"token=abc", b"0123456789" * 4):
                assert secret not in path.read_bytes(), path


def wait_for_the_end(files):
    """Returns when the files are whole: a process of its own may write on after the run's end."""
    torn = pytest.importorskip("google.protobuf.message").DecodeError
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(IndexError, torn):
            if all([*records(file)][-1].HasField("exit") for file in files):
                return
        time.sleep(0.1)


def records(file):
    """Yields what a file of Weights & Biases holds: the log format of LevelDB, after 7 bytes.

    Blocks are of 32 kB; each part of a record begins with checksum, length and kind (whole, first,
    middle or last part).
    """
    record = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record
    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 2**15 - place % 2**15 < 7:  # too little left of a block for the head of a part
            place += 2**15 - place % 2**15
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield record.FromString(whole)
            whole = b""
