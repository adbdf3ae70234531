"""The attention kernel for Hopper GPUs, as far as it can be known without one."""

import functools
import importlib
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import REPOSITORY
from vit_jax.benchmark import attention, float64
from vit_jax.models.kernels import plain_attention
from vit_jax.runtime import gpu

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
command = importlib.import_module("short_attention")
short_attention = importlib.import_module("kernels.hopper").short_attention


@pytest.fixture
def interpreted(monkeypatch):
    """Kernels run on the CPU."""
    if jax.__version_info__ >= (0, 11):
        pytest.skip("what is added to JAX's interpreter is added to that of 0.10")
    interpreter = importlib.import_module("tests.hopper_interpreter")
    return functools.partial(interpreter.interpreted, monkeypatch)


def _random(*shape):
    return [jnp.asarray(x, jnp.bfloat16) for x in np.random.default_rng(0).normal(size=shape)]


def _check(arrays, interpreted, warpgroups=2, tolerance=0.01):
    *qkv, cotangent = arrays
    exact = float64.attention(*arrays)
    with interpreted():
        result, backward = jax.vjp(lambda *x: short_attention(*x, warpgroups), *qkv)
        gradients = jax.block_until_ready(backward(cotangent))
    assert float64.error(result, exact.result) < tolerance
    for gradient, wanted in zip(gradients, exact.gradients, strict=True):
        assert gradient.dtype == jnp.bfloat16
        assert float64.error(gradient, wanted) < tolerance


@pytest.mark.parametrize(
    ("b", "n", "h", "warpgroups"),
    [(2, 5, 2, 2), (1, 64, 1, 2), (1, 130, 1, 2), (1, 197, 1, 2), (1, 197, 1, 1), (1, 256, 1, 4)],
)
def test_it_is_attention(b, n, h, warpgroups, interpreted):
    """Tokens in one tile or four, full ones or not, and three tiles for two warpgroups."""
    _check(_random(4, b, n, h, 64), interpreted, warpgroups)


def test_padding_is_no_key(interpreted):
    """Logits near -130: one of 0 beside them would have all the weight.

    What all keys have in common shows the rounding of the result, which the gradient is made of.
    """
    query, value, cotangent = _random(3, 1, 70, 1, 64)
    _check([query + 4, -query - 4, value, cotangent], interpreted, tolerance=0.02)


def _lowered(function, *arrays):
    traced = jax.jit(function).trace(*arrays)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("n", [5, 130, 197, 256])
@pytest.mark.parametrize("name", ["hopper, 1 warpgroup", "hopper, 2 warpgroups"])
def test_it_lowers_to_one_kernel_and_one_for_all_gradients(name, n):
    """Without a copy of any array, padded or transposed, beside it.

    By whatever JAX is installed, for a GPU that need not be there. Of versions that do not
    interpret the kernel no more is known.
    """
    candidate = command.CANDIDATES[name]

    def both(query, key, value, cotangent):
        result, backward = jax.vjp(candidate, query, key, value)
        return result, backward(cotangent)

    array = jax.ShapeDtypeStruct((2, n, 3, 64), jnp.bfloat16)
    for text, count in ((_lowered(candidate, *[array] * 3), 1), (_lowered(both, *[array] * 4), 2)):
        assert re.findall(r"= stablehlo\.(\w+)", text) == ["custom_call"] * count
        assert text.count("custom_call @mosaic_gpu") == count


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 257, 1, 64), "bfloat16"), ((1, 5, 1, 32), "bfloat16"), ((1, 5, 1, 64), "float32")],
)
def test_what_it_cannot_do_is_an_error(shape, dtype):
    array = jnp.zeros(shape, dtype)
    with pytest.raises(ValueError, match=r"must be (1 to 256, and 64|bfloat16)"):
        short_attention(array, array, array)


def test_other_devices_are_told_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["short_attention.py"])
    for capability, said in ((None, "not cpu"), (10.0, "not compute capability 10.0")):
        monkeypatch.setattr(gpu, "compute_capability", lambda found=capability: found)
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_a_kernel_that_fails_does_not_stop_the_others(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no image")

    candidates = {"broken": broken, "xla": plain_attention}
    monkeypatch.setattr(command, "CANDIDATES", candidates)
    monkeypatch.setattr(gpu, "compute_capability", lambda: 9.0)
    sizes = ["--tokens=5", "--images=2", "--heads=1", "--seconds=0.01"]
    monkeypatch.setattr(sys, "argv", ["short_attention.py", *sizes, "--json"])
    command.main()
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == {"broken": "RuntimeError: no image"}
    assert found["kernels"]["xla"]["gradient_error"] < 0.05
    assert found["tokens"] == 5
    monkeypatch.setattr(sys, "argv", ["short_attention.py", *sizes])
    command.main()
    said = capsys.readouterr().out
    assert "broken failed: RuntimeError: no image" in said
    assert "forward + backward" in said


def test_what_the_models_can_have_is_measured_beside_it():
    assert attention.FUNCTIONS.items() <= command.CANDIDATES.items()
