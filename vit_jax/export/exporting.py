"""A model written in another format, opened again there, and compared before it counts."""

import contextlib
import dataclasses
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import __version__
from vit_jax.checkpoints import writing
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.export.kinds import Kind, find_kind
from vit_jax.export.program import IMAGES, LOGITS, Program, random_images
from vit_jax.origin import describe_model
from vit_jax.workdir import find_run, is_run

# What an exported folder says of itself, and how an earlier export is known as one.
SHEET = "export.json"

Run = Callable[[np.ndarray], np.ndarray]  # images to logits

_BATCHES = (1, 3)
_TIMED = 7  # calls; the first, which compiles, is not among them


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
      folder, kind: what was written.
      bytes: the size of its files.
      difference: of its logits from the model's, as a share of the largest logit.
      milliseconds: of one image, the median; None for weights alone, which run nothing.
      model_milliseconds: the same of the model here.
    """

    folder: Path
    kind: Kind
    bytes: int
    difference: float
    milliseconds: float | None
    model_milliseconds: float


def export(program: Program, target: str | Path, to: str, *, overwrite: bool = False) -> Exported:
    """Writes a program in a format, opens it again and compares: all of it appears, or nothing.

    Args:
      program: what `make_program` returns.
      target: a folder that is not there yet, or is empty.
      to: a name of `KINDS`.
      overwrite: whether an earlier export at `target` is replaced. Nothing else ever is.

    Raises:
      ConfigError: an unknown format, a package that is missing, or a target that is taken.
      CheckpointError: a model that the format cannot hold, or one that computes something else
        there, by more than `Kind.tolerance`.
    """
    kind = find_kind(to)
    kind.check_installed()
    target = check_target(target, overwrite=overwrite)
    with _appearing(target) as folder, _on_cpu():
        kind.write(program, folder)
        writing.write_text(folder / SHEET, writing.json_text(sheet(program, kind)))
        run, model = kind.load(folder), jax.jit(program)
        difference = compare(run, lambda images: np.asarray(model(images)), program)
        if not difference <= kind.tolerance:
            raise CheckpointError(
                f"the {to} model gives other logits: {difference:.1e} of the largest apart, where "
                f"{kind.tolerance:.0e} is allowed; nothing was written"
            )
        one = random_images(program, 1)
        milliseconds = _milliseconds(run, one) if kind.is_program else None
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        here = _milliseconds(lambda images: np.asarray(model(images)), one)
    return Exported(target, kind, size, difference, milliseconds, here)


def default_target(source: str | Path, to: str) -> Path:
    """Returns the folder that an export goes to unless another is named: ./NAME_FORMAT."""
    if is_run(source):
        workdir, step = find_run(source)
        name = workdir.root.name if step is None else f"{workdir.root.name}_{step}"
    else:
        name = Path(str(source).rstrip("/")).name
        for ending in (".npz", ".safetensors"):
            name = name.removesuffix(ending)
    return Path(f"{name}_{to}")


def check_target(target: str | Path, *, overwrite: bool) -> Path:
    """Returns the path of a folder that may be written, or raises `ConfigError`."""
    path = Path(target).expanduser()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return path
    if not (path / SHEET).is_file():
        raise ConfigError(f"{target}: is there already, and is no export; name another folder")
    if not overwrite:
        raise ConfigError(
            f"{target}: is there already; name another folder, or replace it with --force"
        )
    return path


def compare(run: Run, model: Run, program: Program) -> float:
    """Returns the largest difference of logits, as a share of the largest one, over `_BATCHES`."""
    worst = 0.0
    for batch in _BATCHES:
        images = random_images(program, batch)
        here, there = model(images), run(images)
        if here.shape != there.shape:
            raise CheckpointError(
                f"the exported model gives {list(there.shape)} for a batch of {batch}, where the "
                f"model gives {list(here.shape)}; nothing was written"
            )
        scale = float(np.abs(here).max()) or 1.0  # a head of zeros gives zeros
        difference = float(np.abs(there - here).max()) / scale
        worst = difference if np.isnan(difference) else max(worst, difference)
    return worst


def sheet(program: Program, kind: Kind) -> dict[str, Any]:
    """Returns what stands in `SHEET`: how the model is fed, in numbers and in words."""
    height, width = program.preprocess.size
    said: dict[str, Any] = {
        "written_by": f"vit_jax {__version__}",
        "format": kind.name,
        "model": describe_model(program.model),
    }
    if kind.is_program:
        said["input"] = {
            "name": IMAGES,
            "dtype": "uint8" if program.normalizes else "float32",
            "shape": ["batch", height, width, 3],
            "colours": "RGB",
        }
        said["output"] = {"name": LOGITS, "dtype": "float32"}
        said["steps"] = steps(program)
    names = program.class_names
    return {
        **said,
        "preprocess": program.preprocess.to_dict(),
        "class_names": None if names is None else list(names),
    }


def steps(program: Program) -> list[str]:
    """Returns what is to be done to a photograph before the program takes it, in words."""
    how, (height, width) = program.preprocess, program.preprocess.size
    method = f"{how.interpolation}{', antialiased' if how.antialias else ', not antialiased'}"
    said = ["decode to RGB, upright, uint8"]
    if how.resize is None:
        said.append(f"resize to {height} x {width} pixels ({method})")
    else:
        said.append(f"resize the shorter side to {how.resize} pixels ({method})")
        said.append(f"cut the central {height} x {width} pixels out")
    if not program.normalizes:
        said.append(f"(pixels / 255 - {list(how.mean)}) / {list(how.std)}, in float32")
    return said


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yields a folder beside `target`, which takes its place if the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        new, old = beside / "new", beside / "old"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """Every side is compared on the CPU: others round products of float32 in ways of their own."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


def _milliseconds(run: Run, images: np.ndarray) -> float:
    run(images)
    taken = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        run(images)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)
