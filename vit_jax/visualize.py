"""The pictures of a model, for any checkpoint: a run, or pretrained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from vit_jax.data.datasets import is_at_hand
from vit_jax.data.preprocess import Preprocess, opened
from vit_jax.errors import CheckpointError, ConfigError, DataError, VitJaxError
from vit_jax.experiment import open_split
from vit_jax.models.lit import LitModel
from vit_jax.origin import describe_model
from vit_jax.pair_model import image_tower
from vit_jax.pictures.album import Album
from vit_jax.pictures.examples import pixels_of, spread_out
from vit_jax.pictures.model import FILES, draw_model
from vit_jax.pictures.page import foreign_file, write_page
from vit_jax.predict import open_model
from vit_jax.pretrained import Pretrained, Trained

_MOST = 32  # images, each a row of the picture of attention


def visualize(
    source: str | Path, images: Sequence[str], output: str | Path, **fields: Any
) -> Album:
    """Draws what there is to see in a model, with the page `index.html`.

    Of an image-text model that is its image tower.

    Args:
      source: what `load_pretrained` takes.
      images: files for its attention; without them a run looks at a few of its test images, if
        they are at hand. Of other weights attention is left out then.
      output: the folder of the pictures.
      fields: of `create_model`, which say what a file of weights does not.

    Returns:
      What was drawn, and what was not.

    Raises:
      ConfigError: more images than a picture has rows for.
      CheckpointError, DataError: weights or images that cannot be read, or a folder that holds
        another's page or pictures.
    """
    _check_few(images)
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"--output={output}: is a file; name a folder")
    if (foreign := foreign_file(folder, FILES)) is not None:
        raise CheckpointError(f"--output={output}: has another's {foreign}; name a new folder")
    trained = open_model(source, **fields)
    pixels = _pixels(images, trained.preprocess) if images else _of_run(trained)
    model: Any = trained.model
    name, album = describe_model(model), Album(folder)
    variables = jax.device_get(trained.variables)
    if isinstance(model, LitModel):
        model, variables = image_tower(model, variables)
    for file in FILES:  # of an earlier album: what is not drawn now must not show another model
        (folder / file).unlink(missing_ok=True)
    draw_model(album, model, variables, trained.preprocess, pixels, name)
    write_page(album, f"{name}: {Path(source).name or source}")
    return album


def _check_few(images: Sequence[str]) -> None:
    """Raises unless images are named one by one, and have room in one picture."""
    many = "for many, vit_jax predict --attention=OUTPUT draws each by itself, also of a folder"
    if inside := next((path for path in images if Path(path).is_dir()), None):
        raise DataError(f"{inside}: is a folder; name up to {_MOST} images of it; {many}")
    if len(images) > _MOST:
        raise ConfigError(f"{len(images)} images: a picture has {_MOST} rows at most; {many}")


def _pixels(paths: Sequence[str], preprocess: Preprocess) -> UInt8[np.ndarray, "b h w 3"]:
    """Returns image files as the model sees them, before normalisation."""
    return np.stack([preprocess.pixels(opened(path)) for path in paths])


def _of_run(trained: Trained | Pretrained) -> UInt8[np.ndarray, "b h w 3"] | None:
    """Returns a few test images of a classifier's run; None where they are not at hand."""
    if not isinstance(trained, Trained) or trained.config.task != "classify":
        return None
    config = trained.config
    try:
        if not is_at_hand(config.dataset, config.tfds_data_dir):
            return None
        source = open_split(config, config.pp.test, keep=False)
        return pixels_of(source, spread_out(np.arange(len(source))), trained.preprocess)
    except VitJaxError:  # a folder that is gone, an image that cannot be read
        return None
