"""Safetensors: the parameters without a program, with configs, for `load_pretrained` and timm."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from vit_jax.checkpoints import writing
from vit_jax.checkpoints.arrays import write_safetensors
from vit_jax.checkpoints.kinds import SINGLE
from vit_jax.errors import CheckpointError
from vit_jax.export.program import Program, make_program
from vit_jax.origin import Origin, of_model
from vit_jax.pretrained import open_pretrained
from vit_jax.release import all_arrays, check_parameters
from vit_jax.release import write as write_release

FILE = SINGLE


def write(program: Program, folder: Path) -> None:
    """Writes timm's layout; official names for models that timm does not have."""
    origin = of_model(
        "the model", program.model, program.variables, program.preprocess, program.class_names
    )
    check_parameters(origin)
    try:
        write_release(origin, folder, "timm")
    except CheckpointError:
        _write_official(origin, program, folder)


def _write_official(origin: Origin, program: Program, folder: Path) -> None:
    preprocess = program.preprocess
    beside = writing.configs(
        "official",
        origin.fields,
        preprocess.size,
        preprocess.to_dict(),
        origin.class_names,
        origin.grid,
    )
    arrays = writing.encode(all_arrays(origin), "official", origin.fields)
    write_safetensors(folder / FILE, arrays, {"format": "pt"})
    for name, content in beside.items():
        writing.write_text(folder / name, writing.json_text(content))


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model that `load_pretrained` builds from a folder."""
    program = make_program(open_pretrained(folder))
    call = jax.jit(program)
    return lambda images: np.asarray(call(images))
