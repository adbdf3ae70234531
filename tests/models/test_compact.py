"""Compact transformers: the tokenizer against plain NumPy, published sizes, and their fields."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models.compact import COMPACT

# Millions of parameters, with 10 classes at 32 px and 1000 at 224 px, as the authors of
# arXiv:2104.05704 state them.
PUBLISHED = {
    "vit_lite_7_4_32": 3.72,
    "cvt_7_4_32": 3.72,
    "cct_2_3x2_32": 0.28,
    "cct_4_3x2_32": 0.48,
    "cct_7_3x1_32": 3.76,
    "cct_7_3x2_32": 3.85,
    "cct_14_7x2_224": 22.36,
}


def shapes_of(name: str, size: int, classes: int, **fields: Any) -> Any:
    model = models.create_model(name, classes, **fields)
    images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    size = int(name.split("_")[-1])
    params = shapes_of(name, size, {32: 10, 224: 1000}[size])
    millions = trees.count(params) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], abs=0.01)


@pytest.mark.parametrize("name", COMPACT)
def test_each_has_the_parts_of_its_kind(name):
    size = int(name.split("_")[-1]) if name[-1].isdigit() else 32
    params = shapes_of(name, size, 10)
    class_token = name.startswith("vit_lite") or name.endswith("token")
    assert ("cls" in params) == class_token
    assert ("pool" in params) == (not class_token)
    assert ("stem" in params) == name.startswith("cct") == ("embedding" not in params)


@pytest.mark.parametrize(
    ("name", "size", "tokens"),
    [
        ("cct_7_3x1_32", 32, 256),
        ("cct_2_3x2_32", 32, 64),
        ("cct_7_7x2_224", 224, 196),
        ("cct_14_7x2_384", 384, 576),
        ("cvt_7_4_32", 32, 64),
        ("vit_lite_7_4_32", 32, 65),
    ],
)
def test_tokens_are_as_many_as_published(name, size, tokens):
    positions = shapes_of(name, size, 10)["Transformer"]["posembed_input"]["pos_embedding"]
    assert positions.shape[1] == tokens


def test_the_cifar_models():
    params = shapes_of("compact_cifar_sequence", 32, 10)
    blocks = [key for key in params["Transformer"] if key.startswith("encoderblock")]
    assert len(blocks) == 4
    block = params["Transformer"]["encoderblock_0"]
    assert block["MlpBlock_0"]["Dense_0"]["kernel"].shape == (48, 192)
    assert block["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape == (48, 4, 12)
    assert params["embedding"]["kernel"].shape == (4, 4, 3, 48)


def reference(images, kernels, stride, pool_size, pool_stride):
    """Convolution, ReLU and max-pool of one image, window by window."""
    x = np.asarray(images, np.float64)
    for kernel in kernels:
        k, pad = len(kernel), len(kernel) // 2
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        grid = np.lib.stride_tricks.sliding_window_view(x, (k, k), (0, 1))[::stride, ::stride]
        x = np.maximum(np.einsum("hwcij,ijcd->hwd", grid, np.asarray(kernel, np.float64)), 0)
        if pool_size:
            pad = pool_size // 2
            x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
            grid = np.lib.stride_tricks.sliding_window_view(x, (pool_size, pool_size), (0, 1))
            x = grid[::pool_stride, ::pool_stride].max((-2, -1))
    return x


@pytest.mark.parametrize(
    ("layers", "kernel", "stride", "pool_size", "pool_stride"),
    [(1, 3, 1, 3, 2), (2, 3, 1, 3, 2), (2, 7, 2, 3, 2), (1, 4, 2, 2, 2), (2, 3, 2, None, 1)],
)
def test_tokenizer_equals_the_reference(layers, kernel, stride, pool_size, pool_stride):
    images = jax.random.normal(jax.random.key(0), (1, 17, 24, 3))
    tokenizer = models.ConvTokenizer(8, layers, kernel, stride, pool_size, pool_stride, 5)
    params = random_params(tokenizer, images, train=False)
    kernels = [params[f"conv_{i}"]["kernel"] for i in range(layers)]
    assert [k.shape[-1] for k in kernels] == [5, 8][-layers:]
    want = reference(images[0], kernels, stride, pool_size, pool_stride)
    got = apply(tokenizer, params, images, train=False)[0]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_tokenizer_computes_in_its_dtype():
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    tokenizer = models.ConvTokenizer(8, dtype=jnp.bfloat16)
    params = random_params(tokenizer, images, train=False)
    assert apply(tokenizer, params, images, train=False).dtype == jnp.bfloat16


def test_stem_fields_override_and_merge():
    model = models.create_model("cct_7_3x1_32", stem_fields={"kernel_size": 5, "pool_size": None})
    assert isinstance(model, models.VisionTransformer)
    assert model.stem_fields == {
        "num_layers": 1, "kernel_size": 5, "stride": 1, "pool_size": None
    }  # fmt: skip
    conv = models.create_model("cct_7_3x1_32", stem="conv")
    assert isinstance(conv, models.VisionTransformer)
    assert conv.stem_fields is None


@pytest.mark.parametrize("stem", ["conv", "cct"])
def test_unknown_stem_fields_are_named(stem):
    with pytest.raises(ConfigError, match="stem_fields field 'kernel' is unknown") as caught:
        models.create_model("B/16", stem=stem, stem_fields={"kernel": 3})
    assert "\n" not in str(caught.value)


def test_stem_fields_without_a_stem():
    with pytest.raises(ConfigError, match=r"stem_fields=.* needs a stem, one of conv, cct"):
        shapes_of("B/16", 32, 10, stem_fields={"kernel_size": 3})


def test_parts_compose():
    fields = {"stem": "conv", "pool": "attention", "transformer": {"mlp": "gated"}}
    params = shapes_of("compact_cifar_token", 32, 10, **fields)
    assert sorted(params) == ["Transformer", "head", "pool", "stem"]
    assert "proj_in" in params["Transformer"]["encoderblock_3"]["MlpBlock_0"]
    assert "probe" in params["pool"]
