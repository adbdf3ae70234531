"""Every faster way through a ViT, against the same sums in float64: loss and all gradients.

The reference is written from the papers (arXiv:2010.11929; LayerNorm arXiv:1607.06450; the tanh
form of GELU, arXiv:1606.08415), shares no line with the package, and has the golden weights.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_golden import assert_gradients_close, load_case
from vit_jax import models

# The share that the loss may be off by, and each gradient of its largest entry. float32 has a
# spacing of 1.2e-7 and bfloat16 one of 7.8e-3, which two layers let grow.
LIMITS = {"float32": (1e-6, 5e-6), "bfloat16": (3e-3, 8e-2)}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "merged_qkv": {"transformer": {"attention": {"merged_qkv": True}}},
    "scanned": {"encoder": models.ScannedEncoder},
    "remat": {"transformer": {"remat": "nothing_saveable"}},
    "all": {
        "encoder": models.ScannedEncoder,
        "transformer": {"attention": {"merged_qkv": True}, "remat": "nothing_saveable"},
    },
}


CASES = [
    *(("vit_token", way, "float32") for way in WAYS),  # 17 tokens: no power of two
    *((name, way, "float32") for name in ("vit_gap", "vit_prelogits") for way in ("plain", "all")),
    *(("vit_token", way, "bfloat16") for way in ("plain", "all")),
]


@pytest.mark.parametrize(("name", "way", "dtype"), CASES)
def test_loss_and_gradients_are_those_of_float64(name, way, dtype):
    official, case = load_case(name)
    fields = dict(WAYS[way])
    transformer = {**official.transformer, **fields.pop("transformer", {})}
    model = official.clone(transformer=transformer, dtype=jnp.dtype(dtype), **fields)
    images, labels = case["input"]["images"], case["input"]["labels"]

    def logits(params):
        return model.apply({"params": params}, images, train=True)

    loss, gradients = jax.jit(jax.value_and_grad(lambda p: cross_entropy(logits(p), labels)))(
        jax.tree.map(jnp.asarray, case["params"])
    )
    exact, exact_gradients = in_float64(name)
    of_loss, of_gradients = LIMITS[dtype]
    assert float(loss) == pytest.approx(exact, rel=of_loss)
    assert_gradients_close(gradients, exact_gradients, of_gradients)


@functools.cache
def in_float64(name: str) -> tuple[float, Any]:
    """Returns loss and gradients of the ViT of the paper, each number in float64."""
    model, case = load_case(name)
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        params, images = (
            jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)
            for tree in (case["params"], case["input"]["images"])
        )

        def loss_of(params: Any) -> Any:
            return cross_entropy(reference(model, params, images), case["input"]["labels"])

        loss, gradients = jax.jit(jax.value_and_grad(loss_of))(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {np.dtype("float64")}
        return float(loss), jax.device_get(gradients)


def cross_entropy(logits: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return (jax.scipy.special.logsumexp(logits, axis=1) - chosen).mean()


def reference(model: Any, params: Any, images: Any) -> Any:
    """Returns the logits of square patches, cut out by hand, in pre-norm blocks."""
    size, side = model.patches["size"][0], images.shape[1] // model.patches["size"][0]
    cut = images.reshape(len(images), side, size, side, size, 3).swapaxes(2, 3)
    kernel = params["embedding"]["kernel"]
    x = cut.reshape(len(images), side * side, -1) @ kernel.reshape(-1, kernel.shape[-1])
    x += params["embedding"]["bias"]
    if "cls" in params:
        x = jnp.concatenate([jnp.repeat(params["cls"], len(images), axis=0), x], axis=1)
    encoder = params["Transformer"]
    x += encoder["posembed_input"]["pos_embedding"]
    for i in range(model.transformer["num_layers"]):
        block = encoder[f"encoderblock_{i}"]
        x += attention(block["MultiHeadDotProductAttention_0"], norm(block["LayerNorm_0"], x))
        hidden = gelu(dense(block["MlpBlock_0"]["Dense_0"], norm(block["LayerNorm_1"], x)))
        x += dense(block["MlpBlock_0"]["Dense_1"], hidden)
    x = norm(encoder["encoder_norm"], x)
    x = x[:, 0] if "cls" in params else x.mean(axis=1)
    if "pre_logits" in params:
        x = jnp.tanh(dense(params["pre_logits"], x))
    return dense(params["head"], x)


def attention(params: Any, x: Any) -> Any:
    """Returns self-attention, one head after the other."""
    total = params["out"]["bias"]
    for head in range(params["out"]["kernel"].shape[0]):
        q, k, v = (
            x @ params[name]["kernel"][:, head] + params[name]["bias"][head]
            for name in ("query", "key", "value")
        )
        scores = jnp.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
        seen = scores / scores.sum(axis=-1, keepdims=True) @ v
        total = total + seen @ params["out"]["kernel"][head]
    return total


def norm(params: Any, x: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return centred / spread * params["scale"] + params["bias"]


def dense(params: Any, x: Any) -> Any:
    return x @ params["kernel"] + params["bias"]


def gelu(x: Any) -> Any:
    return x / 2 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
