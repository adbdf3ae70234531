"""`vit_jax benchmark attention`: sizes, times and errors of the kernels, against float64."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs
from vit_jax.benchmark import attention, float64, timing
from vit_jax.benchmark.attention import benchmark_attention
from vit_jax.errors import ConfigError
from vit_jax.main import main
from vit_jax.models import create_model
from vit_jax.models.kernels import KERNELS, plain_attention
from vit_jax.models.summary import attention_size


def _measure(asked=(), seconds=0.01, **changes):
    return benchmark_attention(runs.tiny_config(batch=16, **changes), seconds, asked)


def test_every_kernel_of_the_settings_can_be_measured():
    assert set(attention.FUNCTIONS) == set(KERNELS) - {"auto"}


def test_sizes_are_those_of_one_device_of_the_config():
    speed = _measure(accum_steps=2)  # 16 images, in 2 parts, over 8 devices
    assert speed.images == 1
    assert (speed.size.tokens, speed.size.heads, speed.size.width) == (5, 2, 8)
    assert speed.dtype == "float32"
    assert "NVIDIA GPU" in speed.cannot_serve["cudnn"]


def test_sizes_of_a_large_model_follow_from_its_shapes():
    size = attention_size(create_model("vit_b16", 10), (224, 224))
    assert size is not None
    assert (size.tokens, size.heads, size.width) == (197, 12, 64)
    assert attention_size(create_model("Mixer-B_16", 10), (224, 224)) is None


def _random(count, shape):
    return np.random.default_rng(0).normal(size=(count, *shape))


def test_float64_is_what_jax_differentiates():
    query, key, value, cotangent = (jnp.asarray(x, jnp.float32) for x in _random(4, (2, 5, 3, 8)))
    exact = float64.attention(query, key, value, cotangent)
    found, backward = jax.vjp(plain_attention, query, key, value)
    assert exact.result.dtype == np.float64
    assert float64.error(found, exact.result) < 1e-6
    for gradient, wanted in zip(backward(cotangent), exact.gradients, strict=True):
        assert float64.error(gradient, wanted) < 1e-6


def test_errors_are_those_of_the_kernel(monkeypatch):
    """One whose result is 1 % too large, and so are its gradients."""

    def wrong(query, key, value):
        return 1.01 * plain_attention(query, key, value)

    monkeypatch.setitem(attention.FUNCTIONS, "xla", wrong)
    (kernel,) = _measure(["xla"]).kernels.values()
    assert kernel.forward_error == pytest.approx(0.01, rel=1e-3)
    assert kernel.gradient_error == pytest.approx(0.01, rel=1e-3)


def test_the_cotangent_is_an_argument_of_what_is_timed(monkeypatch):
    """Of a constant the compiler would do the casting and padding before anything is timed."""
    given, timed = [], attention._milliseconds

    def counted(call, arrays, seconds):
        given.append([argument.shape for argument in jax.tree.leaves(call.lower(*arrays).in_avals)])
        return timed(call, arrays, seconds)

    monkeypatch.setattr(attention, "_milliseconds", counted)
    _measure(["xla"])
    (shape,) = {shape for shapes in given for shape in shapes}
    assert given == [[shape] * 3, [shape] * 4]


def test_bfloat16_is_measured_in_bfloat16():
    (kernel,) = _measure(["xla"], dtype="bfloat16").kernels.values()
    assert 1e-4 < kernel.forward_error < 0.02
    assert 1e-4 < kernel.gradient_error < 0.05


def test_seconds_of_a_call_are_those_of_one_call():
    for duration in (0.001, 0.03):
        found = timing.call_seconds(lambda d=duration: time.sleep(d), 0.1)
        assert duration <= min(found) <= np.median(found) < duration + 0.01


def test_a_model_without_attention_is_one_line():
    config = {"model": {"model_name": "Mixer-B_16"}, "pp": {"crop": 224}}
    with pytest.raises(ConfigError, match="MlpMixer has no self-attention"):
        _measure(**{**config, "model": _mixer()})


def _mixer():
    none = dict.fromkeys(("num_layers", "num_heads", "mlp_dim"))
    none |= dict.fromkeys(("dropout_rate", "attention_dropout_rate"))
    return {
        "model_name": "Mixer-B_16",
        "patches": {"size": None},
        "hidden_size": None,
        "transformer": none,
    }


def test_the_command_prints_json_and_a_table(capsys):
    flags = ["--config=digits", "--seconds=0.01", "--config.batch=16"]
    assert main(["benchmark", "attention", *flags, "--json", "--kernel=xla"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kernels"]["xla"]["both_ms"]["median"] > 0
    assert found["kernels"]["xla"]["gradient_error"] < 1e-5
    assert found["what"]["devices"] == "8 cpu"
    assert found["versions"]["jax"]
    assert main(["benchmark", "attention", *flags]) == 0
    said = capsys.readouterr().out
    for word in ("16 tokens, 4 heads of 16", "xla", "forward + backward", "cudnn cannot serve"):
        assert word in said
