"""Test set-up: eight virtual CPU devices, no network, and shapes checked at every call."""

import os
import tempfile

# Before JAX is imported anywhere: the mesh tests need eight devices, and a GPU or TPU of the
# machine at hand must not change a number.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

# The same programs are compiled again and again, by tests and by the processes they start: each
# is compiled once. The folder lives as long as the session.
_CACHE = tempfile.TemporaryDirectory(prefix="vit_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["VIT_JAX_CACHE"] = os.path.join(_CACHE.name, "vit_jax")  # not in the user's own

import jaxtyping

# Every function of the package checks the shapes and types in its signature; free in production.
jaxtyping.install_import_hook("vit_jax", "beartype.beartype")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
