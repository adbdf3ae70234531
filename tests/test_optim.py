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
from vit_jax.optim import decay_mask, make_optimizer, make_schedule


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
