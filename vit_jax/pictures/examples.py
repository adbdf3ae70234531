"""Images that a model is most wrong about, and those it is least sure of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from vit_jax.contact_sheet import draw_contact_sheet
from vit_jax.data.decoding import decode_pixels
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import Source
from vit_jax.pictures.figure import CannotDrawError
from vit_jax.records.scores import Outcomes

_SHOWN, _FEW = 24, 6


def worst_mistakes(outcomes: Outcomes) -> Int[np.ndarray, "n"]:
    """Returns which outcomes are wrong with the largest loss, the worst first."""
    wrong = np.flatnonzero(~outcomes.correct)
    return wrong[np.argsort(-outcomes.loss[wrong], kind="stable")][:_SHOWN]


def least_sure(outcomes: Outcomes) -> Int[np.ndarray, "n"]:
    """Returns which outcomes have the least confidence, right or wrong, the least first."""
    return np.argsort(outcomes.confidence, kind="stable")[:_SHOWN]


def spread_out(index: Int[np.ndarray, "n"]) -> Int[np.ndarray, "_"]:
    """Returns six places, or all of fewer, from all over a split, for a model to look at."""
    return index[np.linspace(0, len(index) - 1, min(_FEW, len(index))).astype(int)]


def pixels_of(
    source: Source, places: Int[np.ndarray, "n"], preprocess: Preprocess
) -> UInt8[np.ndarray, "n h w 3"]:
    """Returns images of a source as the model sees them, before normalisation."""
    return np.stack(
        [
            preprocess.pixels(decode_pixels(source[place][0], source.name(place)))
            for place in places.tolist()
        ]
    )


def draw_examples(
    outcomes: Outcomes,
    chosen: Int[np.ndarray, "n"],
    source: Source,
    names: Sequence[str],
    preprocess: Preprocess,
    path: Path,
    title: str,
) -> None:
    """Draws images, each with its class and what the model says, and how sure it is.

    Raises:
      CannotDrawError: none are chosen.
    """
    if not len(chosen):
        raise CannotDrawError("there are no mistakes")
    captions = [
        f"is {names[int(outcomes.labels[i])]}\n"
        f"{100 * outcomes.confidence[i]:.0f} %: {names[int(outcomes.predicted[i])]}"
        for i in chosen
    ]
    images = pixels_of(source, outcomes.index[chosen], preprocess)
    draw_contact_sheet(images, captions, path, title)
