"""What a model shows beside its logits, and heads silenced and pruned."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.running import apply, dense, layer_norm, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models.vit import OUTPUTS

LAYERS, HEADS, D, CLASSES = 3, 4, 16, 5
IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
TRANSFORMER = {
    "num_layers": LAYERS,
    "mlp_dim": 24,
    "num_heads": HEADS,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}


def vit(**fields: Any) -> models.VisionTransformer:
    return models.VisionTransformer(
        **{
            "num_classes": CLASSES,
            "patches": {"size": (4, 4)},
            "transformer": TRANSFORMER,
            "hidden_size": D,
            **fields,
        }
    )


MODEL = vit()
PARAMS = random_params(MODEL, IMAGES)
BLOCK = models.Encoder1DBlock(24, HEADS, 0.0, 0.0)


def shown(model: Any, params: Any, outputs: Any = OUTPUTS, **kwargs: Any) -> Any:
    return apply(model, params, IMAGES, outputs=outputs, **kwargs)


def test_what_is_shown_belongs_together():
    logits, seen = shown(MODEL, PARAMS)
    np.testing.assert_allclose(logits, apply(MODEL, PARAMS, IMAGES), atol=1e-5)
    assert set(seen) == set(OUTPUTS)
    states, encoder = seen["hidden_states"], PARAMS["Transformer"]
    assert [s.shape for s in states] == [(2, 7, D)] * (LAYERS + 1)
    for i in range(LAYERS):  # each state is the block before it, applied to the state before
        block = encoder[f"encoderblock_{i}"]
        state, weights = apply(BLOCK, block, states[i], return_weights=True)
        np.testing.assert_allclose(states[i + 1], state, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(seen["attention"][i], weights, atol=1e-5)
    last = layer_norm(states[-1], encoder["encoder_norm"])
    np.testing.assert_allclose(seen["patch_features"].reshape(2, 6, D), last[:, 1:], atol=1e-4)
    assert seen["patch_features"].shape == (2, 2, 3, D)
    np.testing.assert_allclose(seen["pre_logits"], last[:, 0], atol=1e-4)
    want = dense(seen["pre_logits"], PARAMS["head"])
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)


def test_attention_of_chosen_layers():
    _, seen = shown(MODEL, PARAMS, ("attention",), layers=(2, 0))
    assert sorted(seen["attention"]) == [0, 2]
    for weights in seen["attention"].values():
        assert weights.shape == (2, HEADS, 7, 7)
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_nothing_is_kept_unless_asked_for():
    """What was not asked for is no result of the program, and costs no product of its own."""

    def program(**kwargs):
        return jax.make_jaxpr(lambda p: MODEL.apply({"params": p}, IMAGES, **kwargs))(PARAMS)

    assert [len(program(outputs=names).out_avals) for names in ((), ("pre_logits",))] == [1, 2]
    everything = program(outputs=OUTPUTS)
    assert len(everything.out_avals) == 1 + LAYERS + (LAYERS + 1) + 1 + 1
    assert str(everything).count("dot_general") == str(program()).count("dot_general")


def test_attention_is_shown_whatever_the_kernel():
    fused = vit(transformer={**TRANSFORMER, "attention": "cudnn"})
    _, seen = shown(fused, PARAMS, ("attention",))
    _, plain = shown(MODEL, PARAMS, ("attention",))
    for i in range(LAYERS):
        np.testing.assert_array_equal(seen["attention"][i], plain["attention"][i])


def test_hidden_states_under_remat():
    fields = {**TRANSFORMER, "remat": "nothing_saveable"}
    _, seen = shown(vit(transformer=fields), PARAMS)
    _, plain = shown(MODEL, PARAMS)
    for got, want in zip(jax.tree.leaves(seen), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("pool", ["token", "mean", "sequence", "attention", "none", "distilled"])
def test_pre_logits_are_what_the_head_reads(pool):
    model = vit(pool=pool)
    params = random_params(model, IMAGES)
    logits, seen = shown(model, params, ("pre_logits",))
    read = seen["pre_logits"]
    if pool == "distilled":
        want = (dense(read[:, 0], params["head"]) + dense(read[:, 1], params["head_dist"])) / 2
    else:
        want = dense(read, params["head"])
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)


def test_pool_norm_stands_after_pooling():
    model = vit(pool="mean", pool_norm=True)
    params = random_params(model, IMAGES)
    assert "encoder_norm" not in params["Transformer"]
    _, seen = shown(model, params, ("hidden_states", "pre_logits"))
    mean = np.asarray(seen["hidden_states"][-1], np.float64).mean(1)
    want = layer_norm(mean, params["pool_norm"])
    np.testing.assert_allclose(seen["pre_logits"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"outputs": ("attentions",)}, "outputs='attentions' is none of attention, .*; did you"),
        ({"outputs": ("attention",), "layers": (1, 3)}, r"layers=\[3\]: the layers are 0 to 2"),
        ({"head_mask": jnp.ones((3, 5))}, r"head_mask of shape \(3, 5\) must have a row for each"),
    ],
)
def test_wrong_wishes_are_one_line(call, message):
    with pytest.raises(ConfigError, match=message):
        MODEL.apply({"params": PARAMS}, IMAGES, **call)


def mask_of(heads: dict[int, Any]) -> Any:
    mask = np.ones((LAYERS, HEADS), np.float32)
    for layer, gone in heads.items():
        mask[layer, list(gone)] = 0
    return jnp.asarray(mask)


def test_a_silenced_head_adds_nothing():
    """The same as zeros in its rows of the projection that joins the heads."""
    flat = trees.flatten(PARAMS)
    path = "Transformer/encoderblock_1/MultiHeadDotProductAttention_0/out/kernel"
    flat[path] = flat[path].at[2].set(0)
    want = apply(MODEL, trees.unflatten(flat), IMAGES)
    got = apply(MODEL, PARAMS, IMAGES, head_mask=mask_of({1: [2]}))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert np.abs(got - apply(MODEL, PARAMS, IMAGES)).max() > 1e-2


HEADS_GONE = {0: [1], 2: (0, 3, 2)}
PRUNED = models.prune_heads(PARAMS, HEADS_GONE)
SMALLER = models.fit_heads(MODEL, PRUNED)


@pytest.mark.parametrize("model", [MODEL, SMALLER])
def test_pruned_equals_masked(model):
    want = apply(MODEL, PARAMS, IMAGES, head_mask=mask_of(HEADS_GONE))
    got = apply(model, PRUNED, IMAGES)
    assert np.abs(got - want).max() / np.abs(want).max() < 1e-5


def test_pruning_takes_parameters_away_and_leaves_the_rest():
    per_head = 3 * (D * 4 + 4) + 4 * D
    assert trees.count(PARAMS) - trees.count(PRUNED) == 4 * per_head
    again = models.prune_heads(models.prune_heads(PARAMS, {2: [0]}), {0: [1], 2: [1, 2]})
    assert trees.difference(again, PRUNED) == []
    assert models.prune_heads(PARAMS, {}).keys() == PARAMS.keys()


def test_the_smaller_model_starts_with_the_pruned_shapes():
    assert SMALLER.transformer is not None
    assert SMALLER.transformer["num_heads"] == (3, 4, 1)
    start = jax.eval_shape(SMALLER.init, jax.random.key(0), IMAGES)["params"]
    assert {p: x.shape for p, x in trees.flatten(start).items()} == {
        p: x.shape for p, x in trees.flatten(PRUNED).items()
    }
    assert models.fit_heads(MODEL, PARAMS) is MODEL


def test_the_smaller_model_trains():
    optimizer = optax.sgd(0.01)

    @jax.jit
    def step(params):
        def loss(p):
            logits: Any = SMALLER.apply({"params": p}, IMAGES, True)
            labels = jnp.array([0, 1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, _ = optimizer.update(gradient, optimizer.init(params))
        return optax.apply_updates(params, updates), value

    params, losses = PRUNED, []
    for _ in range(5):
        params, loss = step(params)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    flat = trees.flatten(params)
    assert all(flat[path].shape == leaf.shape for path, leaf in trees.flatten(PRUNED).items())


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({3: [0]}, r"heads=\{3: …\}: the parameters have no attention in layer 3"),
        ({1: [4]}, r"heads=\{1: \[4\]\}: layer 1 has the heads 0 to 3"),
        ({1: range(4)}, r"layer 1 must keep at least one of its 4 heads"),
    ],
)
def test_what_cannot_be_pruned_is_said(heads, message):
    with pytest.raises(ConfigError, match=message):
        models.prune_heads(PARAMS, heads)
