"""Metrics on file, figures of speed, and what a person sees."""

import io
import json
import math

import jax.numpy as jnp
import pytest
import rich.console

from vit_jax.errors import CheckpointError, NonFiniteError
from vit_jax.nonfinite import FINITE_LEAVES, KEPT, NonFiniteGuard
from vit_jax.records import loggers
from vit_jax.records.loggers import Console, Recorder, Throughput, clock
from vit_jax.records.metrics_file import TIMING, MetricsFile, read_metrics


def _measured(loss):
    return {name: jnp.float32(loss) for name in ("loss", "accuracy", "grad_norm", "learning_rate")}


def test_lines_after_the_step_resumed_are_taken_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, 0)
    for step in (1, 2, 3):
        file.write(step, {"loss": step / 3}, {"images_per_second": 1.23456789})
    file.write(3, {"test_loss": 0.5})
    before = path.read_text().splitlines()
    path.write_text(path.read_text() + '{"step": 4, "lo')  # a process killed while it wrote
    MetricsFile(path, 3)
    assert path.read_text().splitlines() == before
    MetricsFile(path, 2)
    assert path.read_text().splitlines() == before[:2]
    assert json.loads(before[0]) == {
        "step": 1, "loss": 1 / 3, "timing": {"images_per_second": 1.2346}
    }  # fmt: skip
    MetricsFile(path, 0)
    assert read_metrics(path) == []


def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": \x00}\n{"step": 3}\n')
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: holds a line that is not JSON"):
        MetricsFile(path, 3)
    assert path.read_bytes() == before


def test_metrics_are_settled_one_step_later_and_at_their_intervals(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    recorder = Recorder(file, Console(quiet=True), total=5, every=2, batch=4)
    with Console(quiet=True).showing(0, 5):
        for step in range(1, 6):
            recorder.push(step, _measured(step))
            seen = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] if step > 2 else []
            assert all(s < step for s in seen)
        recorder.settle()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 2.0), (4, 4.0), (5, 5.0)]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_metric_that_is_not_finite_stops_the_run_and_is_not_written(bad, tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    guard = NonFiniteGuard("stop", 1, 1, ["head/kernel"], lambda step: [step])
    recorder = Recorder(file, Console(quiet=True), total=5, every=1, batch=4, checks=[guard])
    recorder.push(1, {**_measured(bad), KEPT: jnp.array(False), FINITE_LEAVES: jnp.array([False])})
    with pytest.raises(NonFiniteError, match="step 1: loss="):
        recorder.push(2, _measured(1.0))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_scores_are_lines_that_any_json_reader_takes(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    recorder = Recorder(file, Console(quiet=True), total=5, every=1, batch=4)
    scores = {"accuracy": 0.5, "top5_accuracy": 1.0, "macro_f1": 0.5, "ece": 0.25}
    recorder.scores(2, scores | {"loss": math.nan})
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert record == {"step": 2} | {f"test_{name}": value for name, value in scores.items()}


def test_throughput_leaves_pauses_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loggers.time, "perf_counter", lambda: now[0])
    speed = Throughput()
    speed.wait(0.5)
    speed.count(100)
    now[0] = 2.0
    speed.pause()
    now[0] = 10.0
    speed.resume()
    assert speed.read() == {"images_per_second": 50.0, "wait_fraction": 0.25}


def test_a_step_counts_when_it_has_ended_also_before_a_pause(tmp_path, monkeypatch):
    """Each takes two seconds, which pass when its metrics are fetched; a pause settles one."""
    now = [0.0]
    monkeypatch.setattr(loggers.time, "perf_counter", lambda: now[0])

    def fetch(measured):
        now[0] += 2.0
        return measured

    monkeypatch.setattr(loggers.jax, "device_get", fetch)
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    recorder = Recorder(file, Console(quiet=True), total=6, every=1, batch=4)
    for step, _ in enumerate(recorder.timed(iter(range(6))), 1):
        recorder.push(step, _measured(1.0))
        if step in (1, 3, 6):
            with recorder.paused():
                now[0] += 100.0
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line[TIMING]["images_per_second"] for line in lines] == [2.0] * 6


def _shown(terminal):
    console = Console()
    text = io.StringIO()
    console._out = rich.console.Console(file=text, force_terminal=terminal, width=100)
    console.plain_seconds = 0.0
    values = {"loss": 1.25, "accuracy": 0.5}
    with console.showing(0, 20):
        console.progress(10, values, {"images_per_second": 1234.0})
        console.scores(
            10,
            {
                "loss": 0.5,
                "accuracy": 0.75,
                "top5_accuracy": 1.0,
                "macro_f1": 0.7,
                "weighted_f1": 0.6,
                "ece": 0.123,
            },
        )
    return text.getvalue()


def test_plain_lines_where_there_is_no_terminal():
    lines = _shown(terminal=False).splitlines()
    assert lines[0].startswith("step 10/20  loss 1.250  accuracy  50.0 %  1,234 img/s")
    assert lines[1] == (
        "step 10/20  test accuracy 75.00 %  top-5 100.00 %  macro F1 70.00 %  loss 0.5000  "
        "calibration error 12.30 %"
    )


def test_a_bar_on_a_terminal():
    text = _shown(terminal=True)
    assert "step 10/20" in text
    assert "━" in text
    assert "1,234 img/s" in text


def test_quiet_says_nothing(capsys):
    console = Console(quiet=True)
    console.say("x")
    console.table("title", [("a", "b")])
    with console.showing(0, 2):
        console.progress(1, {"loss": 1.0, "accuracy": 1.0}, {"images_per_second": 1.0})
    assert capsys.readouterr().out == ""


def test_clock():
    assert [clock(s) for s in (0.0, 7.4, 61.0, 3600.0, 11105.0)] == [
        "0:00", "0:07", "1:01", "1:00:00", "3:05:05"
    ]  # fmt: skip
