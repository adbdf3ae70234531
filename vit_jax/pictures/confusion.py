"""Which classes are taken for which: a matrix, or for many classes the most confused pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vit_jax.pictures.figure import CannotDrawError, cut, new_figure, plain, save
from vit_jax.records.scores import Outcomes

_MOST = 100  # classes of a matrix that can be read
_COUNTED = 20  # classes whose cells have room for their counts
_PAIRS = 30


def draw_confusion(outcomes: Outcomes, names: Sequence[str], path: Path, title: str) -> None:
    """Draws the confusion matrix of up to 100 classes; of more, the most confused pairs.

    Raises:
      CannotDrawError: more classes, and no mistakes.
    """
    if outcomes.num_classes <= _MOST:
        _draw_matrix(outcomes.confusion(), names, path, title)
    else:
        _draw_pairs(outcomes, names, path, title)


def _draw_matrix(
    matrix: Int[np.ndarray, "k k"], names: Sequence[str], path: Path, title: str
) -> None:
    from matplotlib.colors import PowerNorm

    count = len(names)
    side = float(np.clip(3 + 0.45 * count, 5.5, 13))
    names_wide = 0.045 * min(max(map(len, names)), 24)  # inches beside the square
    figure = new_figure(side + 0.8 + names_wide, side, f"Confusion matrix, {title}")
    figure.set_layout_engine("compressed")  # as the matrix is square, whatever room there is
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    # The square root lets rare confusions be seen beside a full diagonal.
    drawn = axes.imshow(100 * shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046)
    bar.set_label("share of the class (%)")
    size = float(np.clip(320 / count, 5, 10))
    shown = [plain(cut(name)) for name in names]
    upright = {"rotation": 90} if count * max(map(len, shown)) > 50 else {}
    axes.set_xticks(range(count), shown, fontsize=size, **upright)
    axes.set_yticks(range(count), shown, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    if count <= _COUNTED:
        _write_counts(axes, matrix, shares)
    save(figure, path)


def _write_counts(axes: Any, matrix: np.ndarray, shares: np.ndarray) -> None:
    size = float(np.clip(110 / len(matrix), 7, 12))
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if shares[row, column] > 0.3 else "black"
        where = {"ha": "center", "va": "center", "fontsize": size, "color": colour}
        axes.text(column, row, f"{matrix[row, column]}", **where)


def _draw_pairs(outcomes: Outcomes, names: Sequence[str], path: Path, title: str) -> None:
    wrong = [pair for pair in outcomes.confused_pairs() if pair[0] != pair[1]][:_PAIRS]
    if not wrong:
        raise CannotDrawError("there are no mistakes")
    figure = new_figure(11, 1.6 + 0.27 * len(wrong), f"Most confused classes, {title}")
    axes = figure.subplots()
    support = outcomes.classes.support
    counts = [count for *_, count in wrong]
    bars = axes.barh(range(len(wrong)), counts, color="tab:blue")
    shares = [f"{100 * count / support[label]:.0f} %" for label, _, count in wrong]
    axes.bar_label(bars, shares, padding=3, fontsize=9)
    labels = [f"{cut(names[a], 30)}  →  {cut(names[b], 30)}" for a, b, _ in wrong]
    axes.set_yticks(range(len(wrong)), map(plain, labels), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(counts))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="images (and share of the true class)", ylabel="true class  →  predicted class")
    axes.grid(axis="x", alpha=0.3)
    save(figure, path)
