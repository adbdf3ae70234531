"""What is asked of XLA besides its defaults."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax.runtime import compiler


@pytest.mark.parametrize(
    ("platform", "deterministic", "options"),
    [("gpu", True, compiler.DETERMINISTIC), ("gpu", False, None), ("tpu", True, None)],
)
def test_only_a_gpu_is_asked_to_be_deterministic(platform, deterministic, options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert compiler.for_steps(deterministic=deterministic) == options


def test_xla_knows_the_option():
    """It reads the options of all backends, and refuses what it does not know."""
    assert jax.jit(jnp.sin, compiler_options=compiler.DETERMINISTIC)(0.0) == 0
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_gpu_no_such_option"):
        jax.jit(jnp.cos, compiler_options={"xla_gpu_no_such_option": True})(0.0)


@pytest.mark.parametrize(
    ("platform", "said", "asked"),
    [
        ("cpu", "--xla_force_host_platform_device_count=2", True),
        ("cpu", "--xla_backend_optimization_level=0", False),  # the user's word
        ("gpu", "", False),
    ],
)
def test_what_runs_once_is_compiled_in_a_hurry_on_a_cpu(platform, said, asked, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setenv("XLA_FLAGS", said)
    options = compiler.for_one_run()
    assert (options is not None) == asked
    if asked:
        assert jax.jit(jnp.sin, compiler_options=options)(0.0) == 0
