"""Blocks as a loop: the parameters, results and gradients of blocks one by one, in less program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, new_params, random_params
from tests.models.test_encoder import (
    HEADS,
    LAYERS,
    PLAIN,
    SIZES,
    X,
    assert_close,
    loss_and_gradient,
)
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models.encoder import Look
from vit_jax.models.pruning import prune_heads

LOOP = models.ScannedEncoder(**SIZES)
PARAMS = random_params(PLAIN, X)


@pytest.mark.parametrize(
    "fields", [{}, {"remat": "nothing_saveable"}, {"layer_scale": 0.1, "mlp": "gated"}]
)
def test_parameters_result_and_gradient_are_those_of_the_encoder(fields):
    plain, loop = models.Encoder(**SIZES, **fields), models.ScannedEncoder(**SIZES, **fields)
    assert trees.difference(new_params(plain, X), new_params(loop, X)) == []
    params = random_params(plain, X)
    assert_close(loss_and_gradient(loop, params), loss_and_gradient(plain, params))


def test_in_bfloat16():
    plain, loop = (type_(**SIZES, dtype=jnp.bfloat16) for type_ in (models.Encoder, type(LOOP)))
    got, want = (apply(m, PARAMS, X) for m in (loop, plain))
    assert got.dtype == want.dtype == jnp.bfloat16
    # In one program XLA rounds sums of bfloat16 at other places: 8 bits are 0.4 %.
    np.testing.assert_allclose(got, want, atol=0.03, rtol=0)


def test_masks_belong_to_their_layers():
    mask = jax.random.uniform(jax.random.key(1), (LAYERS, HEADS))
    got, want = (apply(m, PARAMS, X, head_mask=mask) for m in (LOOP, PLAIN))
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)
    assert not np.allclose(want, apply(PLAIN, PARAMS, X), atol=1e-3)


def test_layers_that_are_looked_into_are_the_same():
    look = Look(frozenset({1}), hidden_states=True)
    (_, got), (_, want) = (m.apply({"params": PARAMS}, X, look=look) for m in (LOOP, PLAIN))
    assert trees.difference(got["attention"][1], want["attention"][1]) == []
    assert len(got["hidden_states"]) == LAYERS + 1


def test_every_layer_drops_other_numbers():
    """Of what a block adds, dropout leaves other entries out in each layer and for each key."""
    sizes = {**SIZES, "dropout_rate": 0.5, "add_position_embedding": False}
    loop, ones = models.ScannedEncoder(**sizes), jnp.ones((2, 40, 12))
    params = jax.tree.map(jnp.zeros_like, new_params(loop, ones))
    for i in range(LAYERS):  # each MLP adds 10^-i to what it does not drop
        bias = params[f"encoderblock_{i}"]["MlpBlock_0"]["Dense_1"]["bias"]
        params[f"encoderblock_{i}"]["MlpBlock_0"]["Dense_1"]["bias"] = bias + 10.0**-i

    def added(seed):
        out = loop.apply(
            {"params": params}, ones, True, final_norm=False, rngs={"dropout": jax.random.key(seed)}
        )
        left = np.rint((np.asarray(out) - 1) / 2 * 100).astype(int)  # kept entries are doubled
        return np.stack([left // 100, left // 10 % 10, left % 10])

    first = added(0)
    assert set(np.unique(first)) == {0, 1}
    for kept in first:
        assert kept.mean() == pytest.approx(0.5, abs=0.06)
    assert (first[0] == first[1]).mean() == pytest.approx(0.5, abs=0.06)
    assert (added(1) == first).mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(added(0), first)


def test_the_program_does_not_grow_with_the_layers():
    def products(layers):
        loop = models.ScannedEncoder(**{**SIZES, "num_layers": layers})
        params = jax.eval_shape(loop.init, jax.random.key(0), X)
        return str(jax.make_jaxpr(loop.apply)(params, X)).count("dot_general")

    assert products(3) == products(9) > 0


def test_branches_of_blocks_with_one_rate_are_dropped_for_whole_images():
    loop = models.ScannedEncoder(**SIZES, drop_path_rate=(0.5,) * LAYERS)
    images = jnp.repeat(X[:1], 64, axis=0)
    drawn = {"dropout": jax.random.key(5)}
    out = loop.apply({"params": PARAMS}, images, train=True, rngs=drawn)
    ways = np.unique(np.round(np.asarray(out)[:, 0], 3), axis=0)
    assert 8 < len(ways) <= 2 ** (2 * LAYERS)  # each image has its own draw in each branch
    exact: Any = loop.apply({"params": PARAMS}, images, train=False)
    np.testing.assert_allclose(exact, apply(PLAIN, PARAMS, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fields", [{"drop_path_rate": 0.1}, {"num_heads": (3, 3, 2)}])
def test_blocks_that_differ_are_refused(fields):
    with pytest.raises(ConfigError, match="must be alike"):
        models.ScannedEncoder(**{**SIZES, **fields}).init(jax.random.key(0), X)


def test_layers_pruned_unevenly_are_refused_and_evenly_pruned_ones_run():
    def pruned(layers):
        taken = prune_heads({"Transformer": PARAMS}, {layer: [1] for layer in layers})
        return taken["Transformer"]

    even = pruned(range(LAYERS))
    np.testing.assert_allclose(apply(LOOP, even, X), apply(PLAIN, even, X), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match=r"alike, .*/key/bias .* \(3, 4\) in encoderblock_1"):
        LOOP.apply({"params": pruned([0])}, X)
    assert apply(PLAIN, pruned([0]), X).shape == X.shape
