"""What is strange about weights is found, and sound weights have nothing strange."""

import numpy as np
import pytest

from tests.test_round_trip import random_params, tiny
from vit_jax.checkpoints.survey import layer_of, survey
from vit_jax.models.zoo import create_model

BLOCK = "Transformer/encoderblock_"
QUERY = "MultiHeadDotProductAttention_0/query/kernel"


@pytest.fixture
def params():
    return random_params(create_model(None, 5, **tiny()))


def test_sound_weights_have_nothing_strange_and_every_number_counted(params):
    found = survey(params.items())
    assert found.strange == ()
    assert list(found.layers) == [
        *("cls", "embedding", "Transformer/posembed_input", f"{BLOCK}0", f"{BLOCK}1"),
        *("Transformer/encoder_norm", "head"),
    ]
    assert found.total.count == sum(array.size for array in params.values())
    values = np.concatenate([p.ravel() for path, p in params.items() if layer_of(path) == "head"])
    assert found.layers["head"].std == pytest.approx(values.std(dtype=np.float64))


def test_layers_are_in_the_order_of_their_numbers():
    blocks = [(f"{BLOCK}{i}/MlpBlock_0/Dense_0/bias", np.ones(1)) for i in (10, 2, 0)]
    assert list(survey(blocks).layers) == [f"{BLOCK}{i}" for i in (0, 2, 10)]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("head/kernel", 0.0, "head/kernel: zeros alone: a new head"),
        (f"{BLOCK}1/{QUERY}", 0.0, f"{BLOCK}1/{QUERY}: zeros alone: a dead layer"),
        ("cls", 2.5, "cls: every value is 2.5"),
        ("cls", np.nan, "cls: 16 of 16 values are NaN"),
        ("cls", np.inf, "cls: 16 of 16 values are infinite"),
    ],
)
def test_a_strange_array_is_named(params, path, value, says):
    params[path] = np.full_like(params[path], value)
    (line,) = survey(params.items()).strange
    assert line.startswith(says)


def test_what_all_blocks_share_is_one_line(params):
    for i in (0, 1):
        params[f"{BLOCK}{i}/LayerNorm_0/scale"][:] = 1
    assert survey(params.items()).strange == (
        f"{BLOCK}*/LayerNorm_*/scale: every value is 1 (2 times)",
    )


def test_equal_blocks_are_named(params):
    for path in list(params):
        if path.startswith(f"{BLOCK}0/"):
            params[path.replace("block_0", "block_1")] = params[path].copy()
    assert survey(params.items()).strange == (f"{BLOCK}0, {BLOCK}1: equal, bit for bit",)
    params[f"{BLOCK}1/LayerNorm_0/bias"][3] += 1e-6
    assert survey(params.items()).strange == ()


def test_a_block_that_lacks_an_array_is_named(params):
    params.pop(f"{BLOCK}1/LayerNorm_1/bias")
    (line,) = survey(params.items()).strange
    assert line == f"{BLOCK}1/LayerNorm_1/bias: is not there, as it is in other blocks"
