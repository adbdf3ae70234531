"""Compiled programs are kept from one process to the next, where the user wants that."""

import os
import subprocess
import sys

import pytest

from tests.golden import REPOSITORY
from vit_jax.runtime import compile_cache

COMPILE = """
import jax, jax.numpy as jnp
from jax import monitoring
from vit_jax.runtime import compile_cache

compile_cache._MIN_SECONDS = 0.0
compile_cache.enable()
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((8, 8)))
print(jax.config.jax_compilation_cache_dir, any(hits))
"""


def _compile(environment):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.fixture
def environment(tmp_path):
    """That of a user, without the tests' own cache."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    return clean | {"VIT_JAX_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}


def test_the_second_process_finds_what_the_first_compiled(environment, tmp_path):
    folder, hit = _compile(environment)
    assert folder.startswith(str(tmp_path / "compiled"))
    assert hit == "False"
    assert _compile(environment) == [folder, "True"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JAX_COMPILATION_CACHE_DIR", "mine"), ("JAX_ENABLE_COMPILATION_CACHE", "false")],
)
def test_what_the_user_chose_stays(environment, tmp_path, variable, value):
    if variable.endswith("DIR"):
        value = str(tmp_path / value)
    folder, _ = _compile(environment | {variable: value})
    assert folder == (value if variable.endswith("DIR") else "None")
    assert not (tmp_path / "compiled").exists()


def test_a_folder_that_cannot_be_written_costs_time_only(environment, tmp_path):
    (tmp_path / "file").write_text("")
    assert _compile(environment | {"VIT_JAX_CACHE": str(tmp_path / "file")}) == ["None", "False"]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for age, name in enumerate("abcd"):
        file = tmp_path / f"jit_{name}-cache"
        file.write_bytes(b"x" * 10)
        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / "notes").write_text("not a program" * 100)
    compile_cache.prune(tmp_path, 25)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "jit_a-cache",
        "jit_b-cache",
        "notes",
    ]
