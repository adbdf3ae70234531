"""Curves of several groups of runs, one over the other, with their spread over seeds."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.pictures.curves import moving_mean
from vit_jax.pictures.figure import COLOURS, count_steps, new_figure, plain, save
from vit_jax.records.comparison import Group, Point, mean_and_spread

# (title, key in metrics.jsonl, y axis, factor)
_PANELS = (
    ("Test accuracy", "test_accuracy", "top-1 accuracy (%)", 100.0),
    ("Test loss", "test_loss", "cross-entropy (nats)", 1.0),
    ("Macro F1", "test_macro_f1", "macro F1 on the test split (%)", 100.0),
    ("Training loss", "loss", "training loss (nats), moving mean", 1.0),
)
_OF_RETRIEVAL = (
    ("Image → text", "test_image_to_text_recall_1", "recall@1 (%)", 100.0),
    ("Text → image", "test_text_to_image_recall_1", "recall@1 (%)", 100.0),
    ("Image → text, first five", "test_image_to_text_recall_5", "recall@5 (%)", 100.0),
    _PANELS[-1],
)
_WIDTH = 125  # letters that a line of the legend has room for


def draw_comparison(groups: Sequence[Group], path: Path) -> None:
    """Draws the mean of each group over the steps, shaded one standard deviation to both sides."""
    labels = group_labels(groups)
    lines = sum(label.count("\n") + 1 for label in labels)
    spread = ": means over seeds, shaded one standard deviation to both sides"
    several = any(len(group.runs) > 1 for group in groups)
    figure = new_figure(12, 8 + 0.2 * lines, "Runs compared" + (spread if several else ""))
    grid = figure.subplots(2, 2)
    is_retrieval = not any(group.last("test_accuracy") for group in groups)
    panels = _OF_RETRIEVAL if is_retrieval else _PANELS
    for axes, (title, key, unit, factor) in zip(grid.flat, panels, strict=True):
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.3)
        count_steps(axes)
        for number, group in enumerate(groups):
            points = smoothed(group, key) if key == "loss" else group.curve(key)
            if points:
                _draw_curve(axes, points, factor, number, dots=key != "loss")
    handles = _legend(labels)
    figure.legend(handles=handles, loc="outside lower center", ncols=1, fontsize=9)
    save(figure, path)


def _draw_curve(axes: Any, points: Sequence[Point], factor: float, number: int, dots: bool) -> None:
    steps, means, spreads = zip(*points, strict=True)
    middle = factor * np.array(means)
    style = {**_style(number), "marker": "o" if dots or len(steps) == 1 else None}
    axes.plot(steps, middle, **style, markersize=3)
    if spreads[0] is not None:
        spread = factor * np.array(spreads, float)
        around = middle - spread, middle + spread
        axes.fill_between(steps, *around, color=style["color"], alpha=0.2, linewidth=0)


def smoothed(group: Group, key: str) -> list[Point]:
    """Returns the mean and spread of the runs' moving means, where all of them have values.

    Between two steps that a run has a value for a line is drawn: runs may log at different ones.
    """
    runs = [{line["step"]: line[key] for line in run if key in line} for run in group.runs]
    if not all(runs):
        return []
    curves = [list(zip(*sorted(run.items()), strict=True)) for run in runs]
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    known = sorted({step for steps, _ in curves for step in steps if first <= step <= last})
    values = [np.interp(known, steps, moving_mean(values)) for steps, values in curves]
    columns = np.array(values).T.tolist()
    return [(step, *mean_and_spread(column)) for step, column in zip(known, columns, strict=True)]


def _style(number: int) -> dict[str, Any]:
    """Returns the look of a group's lines: dashed where the colours come again."""
    line = "-" if number < len(COLOURS) else "--"
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": line}


def _legend(labels: Sequence[str]) -> list:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], **_style(number), label=plain(label)) for number, label in enumerate(labels)
    ]


def group_labels(groups: Sequence[Group]) -> list[str]:
    """Returns what groups are called: their number, runs, and a few settings, broken into lines."""
    labels = []
    for number, group in enumerate(groups, 1):
        count = f" ({len(group.runs)} runs)" if len(group.runs) > 1 else ""
        settings = ", ".join(group.few_settings)
        text = f"#{number} {group.name}{count}" + (f": {settings}" if settings else "")
        labels.append("\n".join(textwrap.wrap(text, _WIDTH, break_on_hyphens=False)))
    return labels
