"""VisionTransformer: what its fields do, dtypes, dropout, and the messages for wrong input."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import linen as nn
from flax.core import FrozenDict

from tests.models.running import apply, new_params, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError, DataError

TRANSFORMER = {
    "num_layers": 1,
    "mlp_dim": 24,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}
FIELDS = {
    "num_classes": 5,
    "patches": {"size": (8, 8)},
    "transformer": TRANSFORMER,
    "hidden_size": 16,
}
HYBRID = {"patches": {"size": (2, 2)}, "resnet": {"num_layers": (1,), "width_factor": 0.5}}
IMAGES = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))


def build(**changes):
    """A small model and random parameters for it."""
    model = models.VisionTransformer(**{**FIELDS, **changes})
    return model, random_params(model, IMAGES)


@pytest.mark.parametrize(
    ("classifier", "shape"),
    [("token", (2, 5)), ("gap", (2, 5)), ("unpooled", (2, 6, 5)), ("token_unpooled", (2, 7, 5))],
)
def test_classifier_decides_the_shape_of_the_logits(classifier, shape):
    model, params = build(classifier=classifier)
    assert apply(model, params, IMAGES).shape == shape
    assert ("cls" in params) == classifier.startswith("token")


def test_unpooled_logits_hold_the_pooled_ones():
    token, params = build()
    every, _ = build(classifier="token_unpooled")
    np.testing.assert_allclose(
        apply(token, params, IMAGES), apply(every, params, IMAGES)[:, 0], atol=1e-6
    )
    gap, params = build(classifier="gap")
    each, _ = build(classifier="unpooled")
    np.testing.assert_allclose(
        apply(gap, params, IMAGES), apply(each, params, IMAGES).mean(1), atol=1e-6
    )


def test_a_new_head_says_its_bias():
    model = models.VisionTransformer(**FIELDS, head_bias_init=-3.5)
    params = new_params(model, IMAGES)
    np.testing.assert_array_equal(apply(model, params, IMAGES), np.full((2, 5), -3.5, np.float32))


@pytest.mark.parametrize("num_classes", [None, 0])
def test_without_classes_features_come_back(num_classes):
    model, params = build(num_classes=num_classes)
    assert "head" not in params
    assert apply(model, params, IMAGES).shape == (2, 16)
    model, params = build(num_classes=num_classes, representation_size=6)
    assert apply(model, params, IMAGES).shape == (2, 6)


def test_without_transformer_patches_are_pooled():
    model, params = build(transformer=None, classifier="gap")
    assert sorted(params) == ["embedding", "head"]
    assert apply(model, params, IMAGES).shape == (2, 5)


def test_encoder_without_position_embeddings():
    transformer = {**TRANSFORMER, "add_position_embedding": False}
    model, params = build(transformer=transformer, classifier="gap")
    assert "posembed_input" not in params["Transformer"]
    # Without positions, the order of the patches does not matter.
    flipped = IMAGES.reshape(2, 2, 8, 24, 3)[:, ::-1].reshape(IMAGES.shape)
    np.testing.assert_allclose(
        apply(model, params, IMAGES), apply(model, params, flipped), atol=1e-5
    )


def test_encoder_is_exchangeable():
    class Twice(nn.Module):
        fields: Any = None
        dtype: Any = None

        def __call__(self, x, train=False):
            return 2 * x

    model, params = build(encoder=Twice, transformer={"fields": 1}, classifier="gap")
    plain, _ = build(transformer=None, classifier="gap")
    head = params["head"]
    got, want = (
        apply(model, params, IMAGES) - head["bias"][None],
        apply(plain, params, IMAGES) - head["bias"][None],
    )
    np.testing.assert_allclose(got, 2 * want, atol=1e-5)


@pytest.mark.parametrize(
    "wrap", [ml_collections.ConfigDict, ml_collections.FrozenConfigDict, FrozenDict]
)
def test_fields_may_be_any_kind_of_mapping(wrap):
    resnet = {"num_layers": [], "width_factor": 0.5}
    transformer = {**TRANSFORMER, "dropout_rate": 0.1}
    settings = {"patches": {"size": [2, 2]}, "transformer": transformer, "resnet": resnet}
    wrapped, params = build(**{key: wrap(value) for key, value in settings.items()})
    plain, _ = build(**settings)
    np.testing.assert_array_equal(apply(wrapped, params, IMAGES), apply(plain, params, IMAGES))


@pytest.mark.parametrize("rate", ["dropout_rate", "attention_dropout_rate"])
def test_dropout_acts_in_training_alone(rate):
    plain, params = build()
    model, _ = build(transformer={**TRANSFORMER, rate: 0.5})
    np.testing.assert_array_equal(apply(plain, params, IMAGES), apply(model, params, IMAGES))

    @jax.jit
    def train(key) -> Any:
        return model.apply({"params": params}, IMAGES, train=True, rngs={"dropout": key})

    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - apply(plain, params, IMAGES, train=True)).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{}, HYBRID],
    ids=["vit", "hybrid"],
)
def test_bfloat16_computes_float32_logits_from_float32_parameters(changes):
    model, params = build(**changes)
    half, _ = build(**changes, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(half.init, jax.random.key(0), IMAGES)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}

    want = apply(model, params, IMAGES)
    for images in (IMAGES, IMAGES.astype(jnp.bfloat16)):
        got = apply(half, params, images)
        assert got.dtype == jnp.float32
        largest = np.abs(want).max()
        assert 1e-5 * largest < np.abs(got - want).max() < 0.03 * largest


def test_bfloat16_features_keep_their_dtype():
    model, params = build(num_classes=None, dtype=jnp.bfloat16)
    assert apply(model, params, IMAGES).dtype == jnp.bfloat16


def test_every_parameter_has_an_explicit_name():
    _, params = build(**HYBRID, representation_size=6)
    paths = trees.flatten(params["Transformer"]["encoderblock_0"])
    assert len(paths) == 16
    assert sorted(params) == [
        "Transformer",
        "block1",
        "cls",
        "conv_root",
        "embedding",
        "gn_root",
        "head",
        "pre_logits",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classifier": "tokn"},
            r"classifier='tokn' is none of token, gap, unpooled, token_unpooled; did.*'token'\?",
        ),
        ({"transformer": None}, "classifier='token' needs a transformer.*use 'gap' or 'unpooled'"),
        ({"patches": {"size": (16,)}}, r"patches\.size=\(16,\) must be two positive numbers"),
        ({"patches": {"size": (0, 8)}}, r"patches\.size=\(0, 8\) must be two positive numbers"),
        (
            {"transformer": {**TRANSFORMER, "num_heads": 3}},
            "num_heads=3 must divide the width 16 .*the closest number that does is 2",
        ),
        (
            {"transformer": {**TRANSFORMER, "activation": "gelu_tan"}},
            r"activation='gelu_tan' is none of gelu_tanh, gelu_erf; did you mean 'gelu_tanh'\?",
        ),
        (
            {"transformer": {**TRANSFORMER, "mlp": "gate"}},
            r"mlp='gate' is none of mlp, gated; did you mean 'gated'\?",
        ),
        (
            {"transformer": {**TRANSFORMER, "mlp": "gated", "mlp_dim": 7}},
            "mlp_dim=7 must be an even number for a gated MLP.* the next one is 8",
        ),
        ({"classifier": "gpa", "pool": "mean"}, "classifier='gpa' is none of .*'gap'"),
        (
            {"pool": "sequnce"},
            "pool='sequnce' is none of token, mean, sequence, .*; did.*'sequence'",
        ),
        (
            {"transformer": None, "pool": "token"},
            "pool='token' needs a transformer to fill the class token.*use 'mean' or 'sequence'",
        ),
        (
            {"transformer": None, "pool": "attention"},
            "pool='attention' needs a transformer for its heads.*use 'mean' or 'sequence'",
        ),
        ({"stem": "cov"}, r"stem='cov' is none of conv, cct; did you mean 'conv'\?"),
        ({"stem_fields": {"stride": 2}}, "stem_fields=.*needs a stem, one of conv, cct"),
        ({**HYBRID, "stem": "conv"}, "stem='conv' and resnet={.*} both come first; leave one out"),
        (
            {"resnet": {"num_layers": (), "width_factor": 0.3}},
            "width_factor=0.3 gives 19 channels, which must be a multiple of 32",
        ),
    ],
)
def test_wrong_fields_are_one_line(changes, message):
    model = models.VisionTransformer(**{**FIELDS, **changes})
    with pytest.raises(ConfigError, match=message) as caught:
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_images_smaller_than_a_patch():
    model = models.VisionTransformer(**FIELDS)
    with pytest.raises(DataError, match="an input of 16×7 pixels holds no patch of 8×8") as caught:
        jax.eval_shape(model.init, jax.random.key(0), IMAGES[:, :, :7])
    assert isinstance(caught.value, ValueError)


def test_bfloat16_logits_of_b16_are_close_to_float32():
    """Within 2 % in relative norm, at 224 px, with every parameter random."""
    images = jax.random.normal(jax.random.key(0), (1, 224, 224, 3))
    plain = models.create_model("ViT-B_16")
    params = random_b16(plain, images)
    want = apply(plain, params, images)
    for attention in ({}, {"attention": {"merged_qkv": True}}):
        model = models.create_model("ViT-B_16", dtype=jnp.bfloat16, transformer=attention)
        got = apply(model, params, images)
        assert got.dtype == jnp.float32
        assert np.linalg.norm(got - want) / np.linalg.norm(want) < 0.02


def random_b16(model, images):
    """Initial values, with a head and biases that are not zero."""
    init = new_params(model, images)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + 0.02 * rng.normal(size=x.shape).astype(np.float32), init)
