"""Curves of several groups of runs, one over the other, with their spread over seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_jax.pictures.curves import moving_mean
from vit_jax.pictures.figure import COLOURS, cut, new_figure, plain, save
from vit_jax.records.comparison import Group

# (title, key in metrics.jsonl, y axis, factor)
_PANELS = (
    ("Test accuracy", "test_accuracy", "top-1 accuracy (%)", 100.0),
    ("Test loss", "test_loss", "cross-entropy (nats)", 1.0),
    ("Macro F1", "test_macro_f1", "macro F1 on the test split (%)", 100.0),
    ("Training loss", "loss", "cross-entropy (nats), moving mean", 1.0),
)
_OF_RETRIEVAL = (
    ("Image → text", "test_image_to_text_recall_1", "recall@1 (%)", 100.0),
    ("Text → image", "test_text_to_image_recall_1", "recall@1 (%)", 100.0),
    ("Image → text, first five", "test_image_to_text_recall_5", "recall@5 (%)", 100.0),
    _PANELS[-1],
)
_WIDTH = 110  # letters that a line of the legend has room for


def draw_comparison(groups: Sequence[Group], path: Path) -> None:
    """Draws the mean of each group over the steps, shaded one standard deviation to both sides."""
    figure = new_figure(12, 8 + 0.25 * len(groups), "Runs compared")
    grid = figure.subplots(2, 2)
    is_retrieval = not any(group.last("test_accuracy") for group in groups)
    panels = _OF_RETRIEVAL if is_retrieval else _PANELS
    for axes, (title, key, unit, factor) in zip(grid.flat, panels, strict=True):
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.3)
        for number, group in enumerate(groups):
            points = group.curve(key)
            if not points:
                continue
            steps, means, spreads = zip(*points, strict=True)
            colour = COLOURS[number % len(COLOURS)]
            middle = factor * np.array(means)
            middle = np.array(moving_mean(middle.tolist())) if key == "loss" else middle
            style = "-" if key == "loss" and len(steps) > 1 else "o-"  # a point is no line
            style = style if number < len(COLOURS) else style + "-"  # dashed: colours come again
            axes.plot(steps, middle, style, color=colour, markersize=3)
            if spreads[0] is not None and key != "loss":
                spread = factor * np.array(spreads, float)
                around = middle - spread, middle + spread
                axes.fill_between(steps, *around, color=colour, alpha=0.2, linewidth=0)
    lines = _legend(groups)
    figure.legend(handles=lines, loc="outside lower center", ncols=1, fontsize=9)
    save(figure, path)


def _legend(groups: Sequence[Group]) -> list:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            color=COLOURS[number % len(COLOURS)],
            linestyle="-" if number < len(COLOURS) else "--",
            label=plain(_label(group)),
        )
        for number, group in enumerate(groups)
    ]


def _label(group: Group) -> str:
    """Cuts what differs, where it is long, and never how many runs there are."""
    runs = f"  ({runs_in(group)})"
    return cut(group.name, _WIDTH - len(runs)) + runs


def runs_in(group: Group) -> str:
    """Returns "1 run" or "3 runs: mean ± standard deviation"."""
    count = len(group.runs)
    return "1 run" if count == 1 else f"{count} runs: mean ± standard deviation"
