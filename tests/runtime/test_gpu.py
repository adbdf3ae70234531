"""What is asked of a GPU, shown with devices that stand in for it."""

import types

import jax
import jax.numpy as jnp
import pytest

from tests import runs
from vit_jax.experiment import compute_dtype
from vit_jax.runtime import gpu


def _device(monkeypatch, platform, **attributes):
    device = types.SimpleNamespace(**attributes)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(jax, "default_backend", lambda: platform)


@pytest.mark.parametrize(
    ("platform", "attributes", "capability", "dtype"),
    [
        ("gpu", {"compute_capability": "9.0"}, 9.0, "bfloat16"),
        ("gpu", {"compute_capability": "7.5"}, 7.5, "float32"),
        ("gpu", {"compute_capability": "gfx942"}, None, "bfloat16"),
        ("tpu", {}, None, "bfloat16"),
        ("cpu", {}, None, "float32"),
    ],
)
def test_bfloat16_is_for_devices_that_have_units_for_it(
    platform, attributes, capability, dtype, monkeypatch
):
    _device(monkeypatch, platform, **attributes)
    assert gpu.compute_capability() == capability
    assert compute_dtype(runs.tiny_config(dtype=None)) == dtype
    assert compute_dtype(runs.tiny_config(dtype="bfloat16")) == "bfloat16"


@pytest.mark.parametrize(
    ("platform", "deterministic", "options"),
    [("gpu", True, gpu.DETERMINISTIC), ("gpu", False, None), ("tpu", True, None)],
)
def test_only_a_gpu_is_asked_to_be_deterministic(platform, deterministic, options, monkeypatch):
    _device(monkeypatch, platform)
    assert gpu.compiler_options(deterministic=deterministic) == options


def test_xla_knows_the_option():
    """It reads the options of all backends, and refuses what it does not know."""
    assert jax.jit(jnp.sin, compiler_options=gpu.DETERMINISTIC)(0.0) == 0
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_gpu_no_such_option"):
        jax.jit(jnp.cos, compiler_options={"xla_gpu_no_such_option": True})(0.0)
