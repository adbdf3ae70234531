"""Schedules and update rules against the official ones, and every parameter's decay group."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden
from vit_jax import trees
from vit_jax.config import default_config
from vit_jax.models import create_model
from vit_jax.optim import decay_mask, depth_of_layers, make_optimizer, make_schedule


def test_schedules_equal_the_official_ones():
    for case in golden.load_json("lr_schedules"):
        schedule = make_schedule(
            case["total_steps"], case["base_lr"], case["decay_type"], case["warmup_steps"]
        )
        rates = [float(jnp.asarray(schedule(step))) for step in case["steps"]]
        # Near the end of a cosine the rate is the rounding error of 1 + cos(pi), whose last bit
        # depends on the compiler: 1e-6 of the base rate is asked there instead of the entry.
        np.testing.assert_allclose(rates, case["lr"], rtol=1e-6, atol=1e-7 * case["base_lr"])


def test_constant_schedule_without_warmup_is_the_base_rate():
    schedule = make_schedule(10, 0.5, "constant", 0)
    assert [float(jnp.asarray(schedule(step))) for step in (0, 5, 10)] == [0.5, 0.5, 0.5]


def test_decay_applies_to_kernels_and_every_parameter_is_in_one_group():
    model = create_model("testing", num_classes=3)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    groups = trees.flatten(decay_mask(params))
    assert groups.keys() == trees.flatten(params).keys()
    decayed = {path for path, decays in groups.items() if decays}
    assert decayed == {path for path in groups if path.endswith("/kernel")}
    assert "cls" not in decayed
    assert "Transformer/posembed_input/pos_embedding" not in decayed
    assert "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel" in decayed


def _config(**changes: Any) -> Any:
    config = default_config()
    config.update(changes)
    return config


PARAMS: Any = {"layer": {"kernel": jnp.array([[2.0, -1.0]]), "bias": jnp.array([0.5, 0.25])}}
GRADS: Any = {"layer": {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.array([0.0, 12.0])}}


def _step(config: Any, rate: float = 0.1) -> Any:
    optimizer = make_optimizer(config, lambda step: jnp.asarray(rate))
    updates, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    return optax.apply_updates(PARAMS, updates), state


def test_gradient_is_clipped_by_its_global_norm():
    # The norm is 13: the clipped gradient is the given one over 13.
    params, _ = _step(_config(optimizer="sgd", grad_norm_clip=1.0, optim_dtype="float32"))
    np.testing.assert_allclose(
        params["layer"]["kernel"], [[2.0 - 0.3 / 13, -1.0 - 0.4 / 13]], rtol=1e-6
    )


def test_weight_decay_is_decoupled_and_spares_biases():
    plain, _ = _step(_config(optimizer="adamw", grad_norm_clip=0.0))
    decayed, _ = _step(_config(optimizer="adamw", grad_norm_clip=0.0, weight_decay=0.5))
    kernel = PARAMS["layer"]["kernel"]
    np.testing.assert_allclose(
        decayed["layer"]["kernel"], plain["layer"]["kernel"] - 0.1 * 0.5 * kernel, rtol=1e-6
    )
    np.testing.assert_array_equal(decayed["layer"]["bias"], plain["layer"]["bias"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "lamb"])
def test_first_moment_has_the_configured_dtype(optimizer):
    for dtype in ("float32", "bfloat16"):
        params, state = _step(_config(optimizer=optimizer, optim_dtype=dtype))
        moments = [
            leaf for path, leaf in trees.flatten(state).items() if "mu" in path or "trace" in path
        ]
        assert moments
        assert {str(leaf.dtype) for leaf in moments} == {dtype}
        assert params["layer"]["kernel"].dtype == jnp.float32
        assert not np.array_equal(params["layer"]["kernel"], PARAMS["layer"]["kernel"])


def test_lamb_adapts_the_steps_of_kernels_alone():
    """A kernel moves by the rate times its own norm, decay included; all else as Adam would."""
    lamb, _ = _step(_config(optimizer="lamb", grad_norm_clip=0.0, weight_decay=0.5))
    adam, _ = _step(_config(optimizer="adamw", grad_norm_clip=0.0, weight_decay=0.5))
    moved = {name: jax.tree.map(np.subtract, new, PARAMS) for name, new in
             (("lamb", lamb), ("adam", adam))}  # fmt: skip
    kernel, of_kernel = PARAMS["layer"]["kernel"], moved["lamb"]["layer"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(of_kernel), 0.1 * np.linalg.norm(kernel), rtol=1e-5)
    by_adam = moved["adam"]["layer"]["kernel"]
    ratio = np.linalg.norm(of_kernel) / np.linalg.norm(by_adam)
    assert abs(ratio - 1) > 0.05
    np.testing.assert_allclose(of_kernel, ratio * by_adam, rtol=1e-5)
    np.testing.assert_array_equal(lamb["layer"]["bias"], adam["layer"]["bias"])


def _depths(name: str | None, size: int = 32, **fields: Any) -> dict[str, set[int]]:
    """{part: depths} of a model's parameters; parts of the encoder have its name left out."""
    model, images = create_model(name, 3, **fields), jnp.zeros((1, size, size, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    depths, found = depth_of_layers(params), {}
    assert depths.keys() == trees.flatten(params).keys()
    for path, depth in depths.items():
        found.setdefault(path.removeprefix("Transformer/").split("/")[0], set()).add(depth)
    return found


VIT = {
    "cls": {0},
    "embedding": {0},
    "posembed_input": {0},
    "encoderblock_0": {1},
    "encoderblock_1": {2},
    "encoder_norm": {3},
    "head": {3},
}
TWO = {"num_layers": 2, "mlp_dim": 16, "num_heads": 2}


def _vit(*without: str, **further: set[int]) -> dict[str, set[int]]:
    return {name: depth for name, depth in (VIT | further).items() if name not in without}


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("ViT-Ti_16", {"transformer": TWO}, VIT),
        (
            "R_Ti_16",
            {"transformer": TWO},
            _vit(conv_root={0}, gn_root={0}),
        ),
        (
            "ViT-Ti_16",
            {"transformer": TWO, "pool": "distilled", "num_registers": 2},
            _vit(dist={0}, registers={0}, head_dist={3}),
        ),
        (
            "ViT-Ti_16",
            {"transformer": TWO, "pool": "attention", "representation_size": 8},
            _vit("cls", pool={3}, pre_logits={3}),
        ),
        (
            "ViT-Ti_16",
            {"transformer": TWO, "pool": "mean", "pool_norm": True},
            _vit("cls", "encoder_norm", pool_norm={3}),
        ),
        (
            "compact_cifar_sequence",
            {"stem": "conv", "transformer": {"num_layers": 2}},
            _vit("cls", "embedding", stem={0}, pool={3}),
        ),
        (
            "Mixer-B_16",
            {"num_blocks": 2, "hidden_dim": 8, "tokens_mlp_dim": 8, "channels_mlp_dim": 8},
            {
                "stem": {0},
                "MixerBlock_0": {1},
                "MixerBlock_1": {2},
                "pre_head_layer_norm": {3},
                "head": {3},
            },
        ),
    ],
)
def test_every_parameter_has_the_depth_of_its_layer(name, fields, expected):
    """As BEiT counts them: 0 before the blocks, i + 1 in block i, one more behind the last."""
    assert _depths(name, **fields) == expected


def test_a_hybrid_s_stages_come_before_the_blocks():
    found = _depths("R26+ViT-S_32", 64, transformer=TWO)
    assert {part for part, depths in found.items() if depths == {0}} == {
        *("cls", "embedding", "posembed_input", "conv_root", "gn_root"),
        *("block1", "block2", "block3", "block4"),
    }
    assert found["encoderblock_1"] == {2}
    assert found["head"] == {3}


LAYERS: Any = {
    "embedding": {"kernel": jnp.array([2.0])},
    "Transformer": {
        "encoderblock_0": {"kernel": jnp.array([-1.0])},
        "encoderblock_1": {"kernel": jnp.array([4.0]), "bias": jnp.array([3.0])},
        "encoder_norm": {"scale": jnp.array([1.0])},
    },
    "head": {"kernel": jnp.array([0.5])},
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "lamb"])
def test_layer_decay_scales_the_whole_update_weight_decay_too(optimizer):
    grads = jax.tree.map(lambda x: 0.1 * x - 0.3, LAYERS)
    plain, decayed = (
        make_optimizer(
            _config(optimizer=optimizer, weight_decay=0.2, layer_decay=layer_decay),
            lambda step: jnp.asarray(0.1),
        )
        for layer_decay in (None, 0.5)
    )
    update, state = plain.update(grads, plain.init(LAYERS), LAYERS)
    found, decayed_state = decayed.update(grads, decayed.init(LAYERS), LAYERS)
    factors = {
        "embedding/kernel": 0.125,
        "Transformer/encoderblock_0/kernel": 0.25,
        "Transformer/encoderblock_1/kernel": 0.5,
        "Transformer/encoderblock_1/bias": 0.5,
        "Transformer/encoder_norm/scale": 1.0,
        "head/kernel": 1.0,
    }
    for path, value in trees.flatten(found).items():
        expected = factors[path] * trees.flatten(update)[path]
        np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=path)
    assert trees.difference(state, decayed_state) == []  # a checkpoint fits both


def test_a_step_with_layer_decay_by_hand():
    """SGD's first step without clipping is -rate * factor * (gradient + decay * kernel)."""
    config = _config(
        optimizer="sgd", grad_norm_clip=0.0, optim_dtype="float32", weight_decay=0.5,
        layer_decay=0.5,
    )  # fmt: skip
    optimizer = make_optimizer(config, lambda step: jnp.asarray(0.1))
    grads = jax.tree.map(lambda x: jnp.ones_like(x), LAYERS)
    updates, _ = optimizer.update(grads, optimizer.init(LAYERS), LAYERS)
    found = {path: float(x[0]) for path, x in trees.flatten(updates).items()}
    assert found == pytest.approx({
        "embedding/kernel": -0.1 * 0.125 * (1 + 0.5 * 2.0),
        "Transformer/encoderblock_0/kernel": -0.1 * 0.25 * (1 + 0.5 * -1.0),
        "Transformer/encoderblock_1/kernel": -0.1 * 0.5 * (1 + 0.5 * 4.0),
        "Transformer/encoderblock_1/bias": -0.1 * 0.5,
        "Transformer/encoder_norm/scale": -0.1,
        "head/kernel": -0.1 * (1 + 0.5 * 0.5),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "name", "beta2"),
    [("adamw", "nu", 0.999), ("lamb", "nu", 0.999), ("lion", "mu", 0.99)],
)
def test_beta2_that_is_left_open_is_that_of_the_paper(optimizer, name, beta2):
    _, state = _step(_config(optimizer=optimizer, optim_dtype="float32", grad_norm_clip=0.0))
    moments = {path: leaf for path, leaf in trees.flatten(state).items() if f"/{name}/" in path}
    gradient = np.asarray(GRADS["layer"]["kernel"])
    expected = (1 - beta2) * (gradient**2 if name == "nu" else gradient)
    found = next(leaf for path, leaf in moments.items() if path.endswith("kernel"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lion_s_moment_moves_in_bfloat16_with_the_default_decay():
    optimizer = make_optimizer(
        _config(optimizer="lion", grad_norm_clip=0.0), lambda step: jnp.asarray(0.1)
    )
    state = optimizer.init(PARAMS)
    for sign in [1] * 300 + [-1] * 300:
        grads = jax.tree.map(lambda x, sign=sign: sign * jnp.ones_like(x), PARAMS)
        _, state = optimizer.update(grads, state, PARAMS)
    assert all(float(x) < 0 for x in jax.tree.leaves(state) if x.ndim for x in x.ravel())
