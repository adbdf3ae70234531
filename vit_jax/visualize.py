"""The pictures of a model, for any checkpoint: a run, or pretrained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from vit_jax.data.preprocess import Preprocess, opened
from vit_jax.errors import CheckpointError
from vit_jax.models.lit import LitModel
from vit_jax.origin import describe_model
from vit_jax.pair_model import image_tower
from vit_jax.pictures.album import Album
from vit_jax.pictures.model import draw_model
from vit_jax.pictures.page import is_foreign, write_page
from vit_jax.predict import open_model


def visualize(
    source: str | Path, images: Sequence[str], output: str | Path, **fields: Any
) -> Album:
    """Draws what there is to see in a model, with the page `index.html`.

    Of an image-text model that is its image tower.

    Args:
      source: what `load_pretrained` takes.
      images: files for its attention; without them that is left out.
      output: the folder of the pictures.
      fields: of `create_model`, which say what a file of weights does not.

    Returns:
      What was drawn, and what was not.

    Raises:
      CheckpointError, DataError: weights or images that cannot be read, or a folder that holds
        another's page.
    """
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"--output={output}: is a file; name a folder")
    if is_foreign(folder):
        raise CheckpointError(f"--output={output}: has an index.html of another; name a new folder")
    trained = open_model(source, **fields)
    pixels = _pixels(images, trained.preprocess)
    model: Any = trained.model
    name, album = describe_model(model), Album(folder)
    variables = jax.device_get(trained.variables)
    if isinstance(model, LitModel):
        model, variables = image_tower(model, variables)
    draw_model(album, model, variables, trained.preprocess, pixels, name)
    write_page(album, f"{name}: {Path(source).name or source}")
    return album


def _pixels(paths: Sequence[str], preprocess: Preprocess) -> UInt8[np.ndarray, "b h w 3"] | None:
    """Returns image files as the model sees them, before normalisation."""
    if not paths:
        return None
    return np.stack([preprocess.pixels(opened(path)) for path in paths])
