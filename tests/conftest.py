"""Test set-up: eight virtual CPU devices, no network, and shapes checked at every call."""

import gc
import os
import tempfile

from tests import xla

# Before JAX is imported anywhere: the mesh tests need eight devices, and a GPU or TPU of the
# machine at hand must not change a number.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla.flags(8)}".strip()

# JAX makes and drops millions of small objects, among which the collector finds next to nothing:
# 6 % of the time of tests/test_step.py.
gc.set_threshold(100_000, 50, 50)

# The same programs are compiled again and again, by tests, by workers and by the processes that
# tests start: each is compiled once. The folder lives as long as the session, whose first process
# makes it; the others find it in their environment.
if "VIT_JAX_TESTS" not in os.environ:
    _FOLDER = tempfile.TemporaryDirectory(prefix="vit_jax_tests_")
    os.environ["VIT_JAX_TESTS"] = _FOLDER.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["VIT_JAX_TESTS"], "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["VIT_JAX_CACHE"] = os.path.join(  # not in the user's own, nor in another worker's
    os.environ["VIT_JAX_TESTS"], os.environ.get("PYTEST_XDIST_WORKER", "main")
)

import jaxtyping

# Every function of the package checks the shapes and types in its signature; free in production.
jaxtyping.install_import_hook("vit_jax", "beartype.beartype")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
