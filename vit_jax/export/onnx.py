"""ONNX, by the converter jax2onnx, run by onnxruntime (the extra `onnx`)."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from vit_jax.export.program import IMAGES, LOGITS, Program
from vit_jax.extras import imported

EXTRA = "onnx"

_WHAT = "an ONNX model"
_CHATTY = ("onnx_ir", "jax2onnx")


def write(program: Program, path: Path) -> None:
    """Writes a graph with one input and one output, whose batch is the symbol "batch"."""
    program.check_fits("onnx")
    with _quiet():
        imported("jax2onnx", EXTRA, _WHAT).to_onnx(
            lambda images: program(images),
            [program.images("batch")],
            model_name="vit_jax",
            return_mode="file",
            output_path=str(path),
            input_names=[IMAGES],
            output_names=[LOGITS],
        )


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a file, from images to logits, on the CPU."""
    runtime = imported("onnxruntime", EXTRA, _WHAT)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run([LOGITS], {IMAGES: images})[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter reports by print, by log and by warnings on what it then does rightly."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            jax.default_device(jax.local_devices(backend="cpu")[0]),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
