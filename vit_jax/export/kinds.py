"""The formats of `vit_jax export`: where each is written, how it is opened again, what it needs."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vit_jax.errors import ConfigError, nearest
from vit_jax.extras import check_installed

# Nothing heavy is imported here: a wrong --to is told at once.
if TYPE_CHECKING:
    import numpy as np

    from vit_jax.export.program import Program


@dataclasses.dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
      name: after `--to=`.
      home: the module that writes and opens it, imported when it is used.
      main: the file of the exported folder that is the model; "" for the folder itself.
      tolerance: how far logits may be from the model's, as a share of the largest.
      runner: what runs it when it is checked.
      opened: a line of Python that runs it; MAIN and FOLDER stand for the paths.
      is_program: whether it computes; otherwise it is weights alone.
      extra, needs: the extra of pip, and the packages of it.
    """

    name: str
    home: str
    main: str
    tolerance: float
    runner: str
    opened: str
    is_program: bool = True
    extra: str | None = None
    needs: tuple[str, ...] = ()

    def write(self, program: "Program", folder: Path) -> None:
        """Writes a program into a folder that is there and empty."""
        importlib.import_module(self.home).write(program, folder / self.main)

    def load(self, folder: Path) -> "Callable[[np.ndarray], np.ndarray]":
        """Opens what `write` wrote, as a function from images to logits."""
        return importlib.import_module(self.home).load(folder / self.main)

    def check_installed(self) -> None:
        """Raises `ConfigError` with pip's command if a package that it needs is not there."""
        if self.extra is not None:
            check_installed(self.needs, self.extra, f"--to={self.name}")


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="stablehlo",
            home="vit_jax.export.stablehlo",
            main="model.stablehlo",
            tolerance=1e-5,
            runner="jax.export",
            opened="vit_jax.load_exported('FOLDER').call(images)",
        ),
        Kind(
            name="onnx",
            home="vit_jax.export.onnx",
            main="model.onnx",
            tolerance=1e-4,
            runner="onnxruntime",
            opened="onnxruntime.InferenceSession('MAIN').run(None, {'images': images})",
            extra="onnx",
            needs=("jax2onnx", "onnxruntime"),
        ),
        Kind(
            name="savedmodel",
            home="vit_jax.export.savedmodel",
            main="",
            tolerance=1e-5,
            runner="TensorFlow",
            opened="tf.saved_model.load('FOLDER').signatures['serving_default'](images=images)",
            extra="tf",
            needs=("tensorflow",),
        ),
        Kind(
            name="safetensors",
            home="vit_jax.export.weights",
            main="",
            tolerance=1e-5,
            runner="vit_jax",
            opened="vit_jax.load_pretrained('FOLDER')",
            is_program=False,
        ),
    )
}


def find_kind(name: str) -> Kind:
    """Returns the format of a name, or raises `ConfigError` with the nearest one."""
    if name not in KINDS:
        raise ConfigError(f"--to={name}: is none of {', '.join(KINDS)}{nearest(name, KINDS)}")
    return KINDS[name]
