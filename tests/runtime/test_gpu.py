"""Which numbers a GPU computes in, shown with devices that stand in for it."""

import types

import jax
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
