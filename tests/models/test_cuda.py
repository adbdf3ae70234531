"""The program that JAX makes for an NVIDIA GPU, as far as it can be read without one."""

import collections
import contextlib
import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from tests import runs
from vit_jax.data.augmentation import Augmentation
from vit_jax.errors import ConfigError
from vit_jax.experiment import make_model, make_preprocess
from vit_jax.models import kernels
from vit_jax.models.summary import check_attention_kernel
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.runtime import gpu
from vit_jax.state import initial_state
from vit_jax.step import StepSettings, make_train_step

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@pytest.fixture(autouse=True)
def hopper(monkeypatch):
    """A machine with an H100, as far as it is asked while a program is made."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(gpu, "compute_capability", lambda: 9.0)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 92000)


def _lowered(function, *arguments, **options):
    traced = jax.jit(function, **options).trace(*arguments)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def _calls(text):
    return set(re.findall(r"custom_call @([\w$]+)", text))


def _with_gradients(function):
    def both(q, k, v, g):
        result, backward = jax.vjp(function, q, k, v)
        return result, backward(g)

    return both


@pytest.mark.parametrize("tokens", [196, 197, 577])
def test_tokens_are_evened_for_gradients_alone(tokens):
    qkv = jax.ShapeDtypeStruct((2, tokens, 3, 64), jnp.bfloat16)
    forward = _lowered(kernels.fused_attention, qkv, qkv, qkv)
    assert FORWARD in _calls(forward)
    assert "NO_MASK" in forward
    assert "stablehlo.pad" not in forward
    both = _lowered(_with_gradients(kernels.fused_attention), qkv, qkv, qkv, qkv)
    assert {FORWARD, BACKWARD} <= _calls(both)
    assert ("PADDING" in both) == ("stablehlo.pad" in both) == (tokens % 2 == 1)


def test_jax_refuses_gradients_of_odd_tokens():
    """Why they are evened; where this fails, JAX has learned them, and it may go."""
    plain = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    qkv = jax.ShapeDtypeStruct((2, 197, 3, 64), jnp.bfloat16)
    with pytest.raises(NotImplementedError, match="Unsupported sequence length Q 197"):
        _lowered(_with_gradients(plain), qkv, qkv, qkv, qkv)


@pytest.mark.parametrize("kernel", ["xla", "cudnn"])
@pytest.mark.parametrize("positions", ["learned", "sincos2d"])
def test_a_bfloat16_step(kernel, positions):
    """Its sums over tokens, images and the like are float32; it writes over its state."""
    attention = {"kernel": kernel, "head_width": 8}
    transformer = {"layer_scale": 0.1, "attention_dropout_rate": 0.0, "attention": attention}
    model = {"transformer": transformer, "positions": {"kind": positions}, "num_registers": 1}
    config = runs.tiny_config(dtype="bfloat16", optimizer="adamw", ema_decay=0.9, model=model)
    vit, preprocess = make_model(config, 10), make_preprocess(config)
    schedule = make_schedule(9, 1e-2, "cosine", 2)
    optimizer = make_optimizer(config, schedule)
    state = jax.eval_shape(
        functools.partial(initial_state, vit, optimizer, preprocess.size, 0, ema=True)
    )
    settings = StepSettings(10, preprocess, Augmentation(), ema_decay=0.9)
    step = make_train_step(vit, optimizer, schedule, settings)
    numbers = jax.ShapeDtypeStruct((4,), jnp.int32)
    images = jax.ShapeDtypeStruct((4, *preprocess.size, 3), jnp.uint8)
    batch = {"image": images, "label": numbers, "epoch": numbers, "index": numbers}
    text = _lowered(step, state, batch, donate_argnums=0)

    assert (BACKWARD in _calls(text)) == (kernel == "cudnn")
    sums = collections.Counter(
        re.findall(r"stablehlo\.reduce\(.*applies stablehlo\.add.*: \(tensor<[\dx]*(\w+)>", text)
    )
    assert sums["f32"] > 20
    assert sums["bf16"] == 0
    of_head = {"4x10", "4x16"}  # logits, and the vectors that they are made of
    products = re.findall(r"dot_general.*: \(tensor<([\dx]*)x(\w+)>, tensor<([\dx]*)x(\w+)>", text)
    assert {left for left, *dtypes in products if "f32" in dtypes} == of_head
    assert len(products) > 20
    assert text.count("tf.aliasing_output") == len(jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"attention_dropout_rate": 0.1}, "no dropout of attention weights"),
        ({"attention": {"head_width": 12}}, "heads of a width divisible by 8"),
    ],
)
def test_a_kernel_that_is_asked_for_by_name_must_serve(fields, reason):
    transformer = {"attention_dropout_rate": 0.0, "attention": {"head_width": 8}, **fields}
    config = runs.tiny_config(dtype="bfloat16", model={"transformer": transformer})
    model = make_model(config, 10)
    check_attention_kernel("auto", model, (16, 16))
    refused = pytest.raises(ConfigError, match=f"'cudnn' cannot serve here: .*{reason}")
    with refused if reason else contextlib.nullcontext():
        check_attention_kernel("cudnn", model, (16, 16))
