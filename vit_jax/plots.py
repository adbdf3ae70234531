"""Pictures of a run, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax.metrics_file import Record

# (title, [(key in metrics.jsonl, label)], y axis, factor)
_PANELS = (
    ("Loss", (("loss", "train"), ("test_loss", "test")), "cross-entropy (nats)", 1.0),
    ("Accuracy", (("accuracy", "train"), ("test_accuracy", "test")), "top-1 accuracy (%)", 100.0),
    ("Learning rate", (("learning_rate", "learning rate"),), "learning rate", 1.0),
    ("Gradient", (("grad_norm", "gradient"),), "global norm before clipping", 1.0),
)
# What is not the noisy value of a single batch.
_STYLES = {"test_loss": "dots", "test_accuracy": "dots", "learning_rate": "exact"}


def draw_curves(records: Sequence[Record], path: Path, title: str) -> None:
    """Draws loss, accuracy, learning rate and gradient norm over the steps.

    Training values are those of single batches (thin) with their moving mean (thick), test values
    those of the whole split (dots).

    Args:
      records: lines of metrics.jsonl.
      path: the PNG to write.
      title: stands above the picture.
    """
    # Without pyplot: no window system is looked for, and no global state is kept.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, series, unit, factor) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        axes.set(title=name, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.3)
        for key, label in series:
            points = [(r["step"], factor * r[key]) for r in records if key in r]
            if points:
                _draw_series(axes, points, label, style=_STYLES.get(key, "noisy"))
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_series(axes: Any, points: list[tuple[int, float]], label: str, style: str) -> None:
    steps, values = zip(*points, strict=True)
    if style == "dots":
        axes.plot(steps, values, "o-", color="tab:orange", markersize=4, label=label)
    elif style == "exact":
        axes.plot(steps, values, color="tab:blue", label=label)
    else:
        axes.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.8)
        axes.plot(steps, moving_mean(values), color="tab:blue", label=label)


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
