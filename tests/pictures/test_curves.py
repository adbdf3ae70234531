"""Curves over steps: ticks have room, there are no half steps, and losses have their scales."""

import itertools
from pathlib import Path

import pytest

from tests.golden import REPOSITORY
from vit_jax.pictures import comparing, curves
from vit_jax.records.comparison import Group
from vit_jax.records.metrics_file import read_metrics

RECIPES = REPOSITORY / "benchmarks" / "results" / "recipes"


def log_of(name):
    return read_metrics(RECIPES / name / "metrics.jsonl")


def long_run(steps):
    scores = ("loss", "test_loss", "test_accuracy", "test_macro_f1", "accuracy", "grad_norm")
    return [{"step": steps * i // 10, **dict.fromkeys(scores, 0.5)} for i in range(1, 11)]


def drawn(module, monkeypatch, records):
    """Returns the figure that a run's records make, laid out."""
    figures = []
    monkeypatch.setattr(module, "save", lambda figure, _: figures.append(figure))
    if module is curves:
        curves.draw_curves(records, Path("unused.png"), "title")
    else:
        comparing.draw_comparison([Group({}, (tuple(records),), ("run",))], Path("unused.png"))
    (figure,) = figures
    figure.canvas.draw()
    return figure


def labels(axes):
    """Returns (left edge, right edge, text) of the labels of the x axis, in pixels."""
    low, high = axes.get_xlim()
    shown = [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
    boxes = [text.get_window_extent() for text in shown]
    return [(box.x0, box.x1, text.get_text()) for box, text in zip(boxes, shown, strict=True)]


@pytest.mark.parametrize("module", [curves, comparing])
@pytest.mark.parametrize(
    "records",
    [
        log_of("compact_cifar_cct_cifar10_sound"),  # 19,531 steps
        log_of("gated_convstem_gated_small_cifar10"),
        log_of("cats_dogs_original"),
        *map(long_run, (99, 950_000, 4_800_000)),
    ],
    ids=lambda records: f"{records[-1]['step']}",
)
def test_labels_of_steps_do_not_touch(module, records, monkeypatch):
    for axes in drawn(module, monkeypatch, records).axes:
        found = labels(axes)
        assert 2 <= len(found) <= 6
        for (_, end, _), (start, _, _) in itertools.pairwise(found):
            assert end + 4 < start, found


@pytest.mark.parametrize("module", [curves, comparing])
@pytest.mark.parametrize("steps", [[5], [5, 6]])
def test_there_are_no_half_steps(module, steps, monkeypatch):
    """Also where there is one record, or two side by side."""
    records = [{"step": step, "loss": 1.0, "test_accuracy": 0.5} for step in steps]
    for axes in drawn(module, monkeypatch, records).axes:
        if axes.lines:
            assert [text for *_, text in labels(axes)] == [f"{step:,}" for step in steps]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_losses_of_two_kinds_have_a_scale_each(loss, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, _: drawn.append(figure))
    records = [{"step": s, "loss": 0.01 / s, "test_loss": 5 / s} for s in range(1, 50)]
    curves.draw_curves(records, tmp_path / "c.png", "title", loss)
    found = {axes.get_ylabel(): axes for axes in drawn[0].axes if axes.lines}
    legend = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert legend == ["train", "test"]
    if loss == "softmax":
        assert set(found) == {"cross-entropy (nats)"}
        return
    assert set(found) == {
        "train: sigmoid cross-entropy (nats)", "test: softmax cross-entropy (nats)"
    }  # fmt: skip
    assert found["train: sigmoid cross-entropy (nats)"].get_ylim()[1] < 0.02
    curves.draw_curves([{"step": 1, "test_loss": 1.0}], tmp_path / "c.png", "title", loss)
    assert drawn[1].axes[0].get_ylabel() == "test: softmax cross-entropy (nats)"
