"""How near images and texts lie to each other: a matrix, with the images at its side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from vit_jax import trees
from vit_jax.captions import CaptionTokens
from vit_jax.experiment import Experiment
from vit_jax.image_text.scores import spoken_names
from vit_jax.pictures.examples import pixels_of
from vit_jax.pictures.figure import CannotDrawError, cut, new_figure, plain, save, show_image
from vit_jax.text.prompts import prompts_of

_SHOWN = 12  # images, and as many texts


def draw_pairs(
    experiment: Experiment,
    readable: Int[np.ndarray, "n"],
    variables: trees.Tree,
    path: Path,
    name: str,
) -> None:
    """Draws the similarities of a few test images with their texts.

    Of classes it takes one image and one text each; else images from all over the split, and the
    first caption of each.

    Args:
      experiment: of a run on images with captions.
      readable: places in the test split to choose from.
      variables: of its model, in this process.
      path: the PNG to write.
      name: of the model.

    Raises:
      CannotDrawError: the experiment has no captions.
    """
    if experiment.texts is None:
        raise CannotDrawError("there are no captions")
    places, texts = _chosen(experiment, readable)
    preprocess, model = experiment.preprocess, experiment.model
    pixels = pixels_of(experiment.test.source, places, preprocess)
    tokens = CaptionTokens(experiment.texts.test, experiment.texts.tokenizer, 0).of(texts)
    images = preprocess.normalize(jnp.asarray(pixels))
    found: Any = model.apply(variables, images, jnp.asarray(tokens), train=False)
    zimg, ztxt, _ = found
    draw_similarity(pixels, texts, np.asarray(zimg @ ztxt.T), path, f"Images and texts, {name}")


def _chosen(
    experiment: Experiment, readable: Int[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "m"], list[str]]:
    """Returns places in the test split, and the text of each."""
    texts, source = experiment.texts, experiment.test.source
    assert texts is not None
    if texts.templates:
        classes, first = np.unique(source.labels[readable], return_index=True)
        few, names = _spread(len(classes)), spoken_names(texts)
        return readable[first[few]], prompts_of(
            [names[classes[i]] for i in few], texts.templates[:1]
        )
    places = readable[_spread(len(readable))]
    return places, [texts.test.captions(int(place))[0] for place in places]


def _spread(count: int) -> Int[np.ndarray, "n"]:
    return np.linspace(0, count - 1, min(_SHOWN, count)).astype(int)


def draw_similarity(
    images: UInt8[np.ndarray, "n h w 3"],
    texts: Sequence[str],
    similarity: Float[np.ndarray, "n m"],
    path: Path,
    title: str,
) -> None:
    """Draws a matrix with images to the left of its rows and texts below its columns.

    Args:
      images: as the model sees them, before normalisation.
      texts: one for each column.
      similarity: cosines.
      path: the PNG to write.
      title: stands above the picture.
    """
    rows, columns = similarity.shape
    figure = new_figure(3.2 + 0.75 * columns, 2.6 + 0.75 * rows, title)
    grid = figure.add_gridspec(rows, 2, width_ratios=(1, columns))
    for row, pixels in enumerate(images):
        show_image(figure.add_subplot(grid[row, 0]), pixels)
    axes = figure.add_subplot(grid[:, 1])
    drawn = axes.imshow(similarity, cmap="viridis", aspect="auto")
    figure.colorbar(drawn, ax=axes, fraction=0.046).set_label("cosine")
    axes.set_xticks(range(columns), [plain(cut(text, 32)) for text in texts], rotation=90)
    axes.set_yticks([])
    middle = (similarity.max() + similarity.min()) / 2
    for row, column in np.ndindex(rows, columns):
        value = similarity[row, column]
        mark = "★ " if value == similarity[row].max() else ""
        where = {"ha": "center", "va": "center", "fontsize": 8}
        colour = "black" if value > middle else "white"
        axes.text(column, row, f"{mark}{value:.2f}", color=colour, **where)
    save(figure, path)
