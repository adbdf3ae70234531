"""The official code's numbers: parameter trees, initial values, logits, losses and gradients."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import apply, new_params
from vit_jax import models, trees

VIT_CASES = ["vit_token", "vit_gap", "vit_unpooled", "vit_prelogits"]
CASES = [*VIT_CASES, "hybrid_stem", "hybrid_r", "mixer"]
# Biases whose true gradient is zero: both sides hold rounding errors alone. That of the keys adds
# the same query · bias to the logits of all keys, which softmax ignores; that of a Mixer's tokens
# adds one number to all channels of a token, which every LayerNorm behind it takes off again.
WITHOUT_GRADIENT = ("key/bias", "token_mixing/Dense_1/bias")


def load_case(name: str) -> tuple[nn.Module, dict[str, Any]]:
    spec = golden.load_json(name)
    arrays = golden.load_arrays(name)
    arrays["input"] = {key: jnp.asarray(value) for key, value in arrays["input"].items()}
    family = models.MlpMixer if spec.get("model") == "MlpMixer" else models.VisionTransformer
    return family(num_classes=spec["num_classes"], **spec["config"]), arrays


@pytest.mark.parametrize("name", CASES)
def test_init_is_official(name):
    model, case = load_case(name)
    params = new_params(model, case["input"]["images"], jax.random.PRNGKey(42))
    assert_equal_to(params, case["init"], 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_logits_loss_and_gradients_are_official(name):
    model, case = load_case(name)

    def loss_and_logits(params):
        logits = apply(model, params, case["input"]["images"], train=True)
        log_p = jax.nn.log_softmax(logits)
        labels = case["input"]["labels"][..., None]
        return -jnp.take_along_axis(log_p, labels, axis=-1).mean(), logits

    value_and_grad = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))
    (loss, logits), gradients = value_and_grad(case["params"])
    output = {"loss": loss, "logits": logits}
    golden.assert_close_to_largest(output, case["output"], 1e-5)
    assert_gradients_close(gradients, case["grads"], 1e-5)


@pytest.mark.parametrize("name", ["ViT-Ti_16", "R+ViT-Ti_16"])
def test_named_model_starts_from_the_official_values(name):
    spec = golden.load_json(f"init_{name.replace('+', '_')}")
    model = models.create_model(name, num_classes=spec["num_classes"])
    images = jnp.zeros((1, spec["image_size"], spec["image_size"], 3))
    params = new_params(model, images, jax.random.PRNGKey(spec["seed"]))

    leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()}
    assert leaves.keys() == spec["params"].keys()
    for path, want in spec["params"].items():
        leaf = leaves[path]
        assert list(leaf.shape) == want["shape"], path
        numbers = [leaf.mean(), leaf.std(), *leaf.ravel()[:4]]
        expected = [want["mean"], want["std"], *want["first"]]
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=1e-6, err_msg=path)


def assert_equal_to(actual: Any, expected: Any, tolerance: float) -> None:
    got, want = trees.flatten(actual), trees.flatten(expected)
    assert got.keys() == want.keys()
    for path in want:
        assert got[path].shape == want[path].shape, path
        np.testing.assert_allclose(got[path], want[path], rtol=0, atol=tolerance, err_msg=path)


def assert_gradients_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Close to the largest entry of each leaf; where that is zero, of the whole gradient."""
    got, want = trees.flatten(actual), trees.flatten(expected)
    assert got.keys() == want.keys()
    largest = max(float(np.abs(leaf).max()) for leaf in want.values())
    for path, leaf in want.items():
        scale = largest if path.endswith(WITHOUT_GRADIENT) else float(np.abs(leaf).max())
        worst = float(np.abs(np.asarray(got[path]) - leaf).max()) / scale
        assert worst <= tolerance, f"{path}: off by {worst:.2e}"
