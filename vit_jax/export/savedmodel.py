"""TensorFlow's SavedModel, by `jax.experimental.jax2tf` (the extra `tf`).

The graph holds StableHLO in one operation, which TensorFlow and its Serving run; parameters are
its variables, so that a model of any size fits.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.export.program import IMAGES, LOGITS, Program
from vit_jax.export.stablehlo import PLATFORMS
from vit_jax.extras import imported

EXTRA = "tf"
SIGNATURE = "serving_default"

_WHAT = "a SavedModel"


def write(program: Program, folder: Path) -> None:
    """Writes a SavedModel whose signature `SIGNATURE` takes `images` and returns `logits`."""
    tf, jax2tf = _tensorflow(), imported("jax.experimental.jax2tf", EXTRA, _WHAT)
    height, width = program.preprocess.size
    converted = jax2tf.convert(
        program.apply,
        polymorphic_shapes=[None, f"(batch, {height}, {width}, 3)"],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    held = tf.nest.map_structure(
        lambda array: tf.Variable(array, trainable=False), _as_dicts(program.variables)
    )
    spec = tf.TensorSpec((None, height, width, 3), tf.as_dtype(program.dtype), name=IMAGES)
    serve = tf.function(
        lambda images: {LOGITS: converted(held, images)}, input_signature=[spec], autograph=False
    )
    module = tf.Module()
    module.held, module.serve = held, serve
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: serve})


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a SavedModel, from images to logits."""
    tf = _tensorflow()
    module = tf.saved_model.load(str(folder))
    serve = module.signatures[SIGNATURE]

    def call(images: np.ndarray) -> np.ndarray:
        assert module is not None  # the signature does not keep its variables alive
        return serve(**{IMAGES: tf.constant(images)})[LOGITS].numpy()

    return call


def _tensorflow() -> Any:
    """TensorFlow, which would otherwise take the whole memory of JAX's GPU, and talk a lot."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # whose use it would announce; XLA has none
    tensorflow = imported("tensorflow", EXTRA, _WHAT)
    for kind in ("GPU", "TPU"):
        tensorflow.config.set_visible_devices([], kind)
    return tensorflow


def _as_dicts(tree: Any) -> Any:
    """The same tree of plain dicts."""
    return {k: _as_dicts(v) for k, v in tree.items()} if hasattr(tree, "items") else tree
