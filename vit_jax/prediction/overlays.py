"""Attention laid over images: for each a picture of what the model looked at."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.pictures.attention import Looked, laid_over, looker
from vit_jax.pictures.figure import CannotDrawError
from vit_jax.prediction.answers import Answers
from vit_jax.prediction.inputs import is_url
from vit_jax.pretrained import Pretrained, Trained

_BATCH = 4  # images: their attention weights, of all layers at once, are large


class Overlays:
    """Writes, for each image, the image itself beside what is left of it where the model looked.

    That is the attention rollout (see `pictures.attention`), or, where there is none, what the
    class token attends to in the last layer; the image is darkened elsewhere.

    Args:
      folder: of the pictures, NAME.png; one that holds files already is refused.
      trained: what `open_classifier` returns.

    Raises:
      ConfigError: the folder holds something, or is a file.
      CheckpointError: the model has no attention.
    """

    def __init__(self, folder: str | Path, trained: Trained | Pretrained):
        self.folder = Path(folder).expanduser()
        taken = any(self.folder.iterdir()) if self.folder.is_dir() else self.folder.exists()
        if taken:
            raise ConfigError(f"--attention={folder}: is there already; name another folder")
        try:
            self._look = looker(trained.model, trained.preprocess)
        except CannotDrawError as error:
            raise CheckpointError(f"--attention={folder}: {error}") from error
        self._variables, self._names = trained.variables, set[str]()

    @property
    def count(self) -> int:
        """How many have been written."""
        return len(self._names)

    def add(self, answers: Answers) -> None:
        """Writes a picture of each image."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(answers.names), _BATCH):
            part = slice(start, start + _BATCH)
            names, images = answers.names[part], answers.images[part]
            filled = np.zeros((_BATCH, *images.shape[1:]), np.uint8)
            filled[: len(images)] = images
            maps = default_maps(self._look(self._variables, filled))
            for name, image, seen in zip(names, images, maps, strict=False):
                _beside(image, laid_over(image, seen)).save(self.folder / self._file(name))

    def _file(self, name: str) -> str:
        """A name of its own: images of several folders may share theirs."""
        last = name.split("?")[0] if is_url(name) else name
        stem = Path(last).stem[:100] or "image"
        free, count = stem, 1
        while free.lower() in self._names:
            count += 1
            free = f"{stem}_{count}"
        self._names.add(free.lower())
        return f"{free}.png"


def default_maps(looked: Looked) -> Float[np.ndarray, "b gh gw"]:
    """Returns the rollout, or where there is none, what the class token attends to at the end.

    Raises:
      CheckpointError: the model has neither.
    """
    if looked.rollout is not None:
        return looked.rollout
    if looked.class_maps is not None:
        return looked.class_maps[-1]
    raise CheckpointError(
        "the model has no class token, and its pooling keeps no weights: there is no attention to "
        "lay over images"
    )


def _beside(left: UInt8[np.ndarray, "h w 3"], right: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    return Image.fromarray(np.concatenate([left, right], axis=1))
