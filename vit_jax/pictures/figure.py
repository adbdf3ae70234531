"""What all figures share: how one is made and written, its colours, and how text is cut."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from vit_jax.fonts import fallbacks
from vit_jax.runtime.output import well_formed

# Told apart by people who see red and green alike (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


class CannotDrawError(Exception):
    """What a picture would show is not there; the message says why, in a few words."""


def in_one_line(error: Exception) -> str:
    """Returns the kind of an error and what it says, cut short."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def new_figure(width: float | int, height: float | int, title: str) -> Any:
    """Returns an empty figure of so many inches."""
    # Without pyplot: no window system is looked for, and no global state is kept.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plain(title))
    return figure


def count_steps(axes: Any) -> None:
    """Gives the x axis a few ticks, at whole numbers: long ones have room, and no step is half."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    # One tick will do: of a single step there is no second one near.
    locator = MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def save(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    _letter(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Said already, in one line for all letters.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(path)


def _letter(figure: Any) -> None:
    """Gives all texts the fonts that have their letters."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    others = fallbacks(text.get_text() for text in texts)
    if others:
        families = ["DejaVu Sans", *map(_registered, others)]
        for text in texts:
            text.set_fontfamily(families)


def _registered(font: Path) -> str:
    """Returns the family of a font, which matplotlib knows from then on.

    Its own list of fonts may be older than the font.
    """
    from matplotlib.font_manager import FontProperties, fontManager

    fontManager.addfont(font)
    return FontProperties(fname=font).get_name()


def plain(text: str) -> str:
    """Returns text that matplotlib shows as it is: a dollar begins no formula."""
    return well_formed(text).replace("$", r"\$")


def cut(text: str, length: int = 24) -> str:
    """Returns the text, ending in "…" where it has more letters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def show_image(axes: Any, image: Num[np.ndarray, "h w ..."], **how: Any) -> None:
    """Shows pixels or a map on axes, without ticks."""
    axes.imshow(image, **how)
    axes.set_xticks([])
    axes.set_yticks([])


def grid_of_axes(figure: Any, count: int, columns: int) -> Sequence[Any]:
    """Returns `count` axes in rows; the last row may have empty places."""
    rows = -(-count // columns)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[count:]:
        empty.axis("off")
    return axes[:count]
