"""StableHLO, by `jax.export`: a program that JAX alone runs, on any device, without this package.

from jax import export

program = export.deserialize(open("model.stablehlo", "rb").read())
logits = program.call(images)
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax import export

from vit_jax.errors import CheckpointError, nearest
from vit_jax.export.program import Program

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(program: Program, path: Path) -> None:
    """Writes a program for all of `PLATFORMS`, whose batch is a symbol."""
    program.check_fits("stablehlo")
    (batch,) = export.symbolic_shape("batch")
    exported = export.export(jax.jit(program), platforms=PLATFORMS)(program.images(batch))
    path.write_bytes(exported.serialize())


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a file, from images to logits."""
    call = jax.jit(load_exported(path).call)
    return lambda images: np.asarray(call(images))


def load_exported(path: str | Path) -> export.Exported:
    """Opens what `vit_jax export --to=stablehlo` wrote.

    `load_exported(path).call(images)` returns logits (b, k), for a batch of any size: uint8 pixels
    (b, h, w, 3) of the model's size, or, where it was exported with `--preprocess=beside`, what a
    `Preprocess` returns. It runs on CPU, CUDA and TPU, differentiates nothing, and can be jitted.
    It is a program: run none of people you do not trust.

    Args:
      path: the exported folder, or the .stablehlo file in it.

    Raises:
      CheckpointError: there is no such file, or it is damaged, or of another version of JAX.
    """
    file = Path(path).expanduser()
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        siblings = [one.name for one in file.parent.iterdir()] if file.parent.is_dir() else []
        raise CheckpointError(f"{file}: no such file{nearest(file.name, siblings)}")
    try:
        return export.deserialize(bytearray(file.read_bytes()))
    except Exception as error:  # whatever the reader of flatbuffers meets in damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{file}: holds no program that this version of JAX reads ({reason})"
        ) from error
