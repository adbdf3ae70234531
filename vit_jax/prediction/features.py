"""The vectors that the head reads, of all images, as one file."""

import tempfile
from pathlib import Path

import numpy as np

from vit_jax.checkpoints.atomic import replacing
from vit_jax.errors import CheckpointError
from vit_jax.prediction.answers import Answers


class Features:
    """Collects features, and writes them at the end.

    The file is NumPy's: `features`, float32 (n, d), and `paths`, n texts. `np.load` opens it.

    Args:
      path: of the file, which ends in .npz. Its folder is made.

    Raises:
      CheckpointError: nothing can be written there; better known before the first image is looked
        at than after the last.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path.parent).close()
        except OSError as error:
            why = error.strerror or error
            raise CheckpointError(f"--features={path}: cannot be written ({why})") from error
        self._names: list[str] = []
        self._parts: list[np.ndarray] = []

    def add(self, answers: Answers) -> None:
        """Takes the features of some images."""
        assert answers.features is not None
        self._names.extend(answers.names)
        self._parts.append(answers.features)

    def write(self) -> tuple[int, ...]:
        """Writes the file, whole or not at all, and returns the shape; () if there is nothing."""
        if not self._parts:
            return ()
        features = np.concatenate(self._parts)
        with replacing(self.path) as file:
            np.savez(file, features=features, paths=np.array(self._names))
        return features.shape
