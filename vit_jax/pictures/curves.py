"""Curves of a run over its steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax.pictures.figure import count_steps, new_figure, save
from vit_jax.records.metrics_file import TIMING, Record

# (title, [(key in metrics.jsonl, label)], y axis, factor)
_PANELS = (
    ("Loss", (("loss", "train"), ("test_loss", "test")), "cross-entropy (nats)", 1.0),
    ("Accuracy", (("accuracy", "train"), ("test_accuracy", "test")), "top-1 accuracy (%)", 100.0),
    (
        "Test scores",
        (
            ("test_top5_accuracy", "top-5 accuracy"),
            ("test_macro_f1", "macro F1"),
            ("test_image_to_text_recall_1", "image → text recall@1"),
            ("test_text_to_image_recall_1", "text → image recall@1"),
            ("test_image_to_text_recall_5", "image → text recall@5"),
            ("test_text_to_image_recall_5", "text → image recall@5"),
        ),
        "score (%)",
        100.0,
    ),
    ("Learning rate", (("learning_rate", "learning rate"),), "learning rate", 1.0),
    ("Gradient", (("grad_norm", "gradient"),), "global norm before clipping", 1.0),
    ("Throughput", (("images_per_second", "images"),), "images trained on per second", 1.0),
)
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_SIGMOID = {
    "loss": "train: sigmoid cross-entropy (nats)",
    "test_loss": "test: softmax cross-entropy (nats)",
}
# What is not the noisy value of a single batch.
_STYLES = {"learning_rate": "exact"}


def draw_curves(records: Sequence[Record], path: Path, title: str, loss: str = "softmax") -> None:
    """Draws loss, accuracy, test scores, learning rate, gradient norm and throughput over steps.

    Training values are those of single batches (thin) with their moving mean (thick), test values
    those of the whole split (dots).

    Args:
      records: lines of metrics.jsonl.
      path: the PNG to write.
      title: stands above the picture.
      loss: that of training. Test losses are softmax cross-entropies; beside another one, they have
        a scale of their own.
    """
    figure = new_figure(14, 7.5, title)
    flat = [{**record, **record.get(TIMING, {})} for record in records]
    for axes, (name, series, unit, factor) in zip(
        figure.subplots(2, 3, sharex=True).flat, _PANELS, strict=True
    ):
        axes.set(title=name, xlabel="step", ylabel=unit)
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
        count_steps(axes)
        shown = []
        for number, (key, label) in enumerate(series):
            points = [(r["step"], factor * r[key]) for r in flat if _known(r, key)]
            if not points:
                continue
            on = axes
            if loss == "sigmoid" and key in _SIGMOID:
                on = axes.twinx() if shown else axes
                on.set_ylabel(_SIGMOID[key])
            shown.append(_draw_series(on, points, label, _style(key), _COLOURS[number]))
        if len(shown) > 1:
            axes.legend(handles=shown)
    save(figure, path)


def _known(record: Record, key: str) -> bool:
    """Whether a line has a value; earlier versions wrote a rate of 0 where they knew none."""
    return key in record and not (key == "images_per_second" and record[key] == 0)


def _style(key: str) -> str:
    return "dots" if key.startswith("test_") else _STYLES.get(key, "noisy")


def _draw_series(
    axes: Any, points: list[tuple[int, float]], label: str, style: str, colour: str
) -> Any:
    """Draws values over steps, and returns the line that the label is of."""
    steps, values = zip(*points, strict=True)
    if style == "dots" or len(points) == 1:  # a single point is no line
        (line,) = axes.plot(steps, values, "o-", color=colour, markersize=4, label=label)
    elif style == "exact":
        (line,) = axes.plot(steps, values, color=colour, label=label)
    else:
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
        (line,) = axes.plot(steps, moving_mean(values), color=colour, label=label)
    return line


def moving_mean(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Returns the mean over a window centred on each value, `share` of the series wide.

    Towards the ends the window shrinks evenly on both sides, so that a slope stays in its place.
    """
    reach, last = max(1, round(len(values) * share / 2)), len(values) - 1
    means = []
    for i in range(len(values)):
        side = min(reach, i, last - i)
        means.append(sum(values[i - side : i + side + 1]) / (2 * side + 1))
    return means
