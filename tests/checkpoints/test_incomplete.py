"""Files that lack an array, or have one of another shape: an error that says so, never a crash."""

import json

import numpy as np
import pytest

from tests.test_round_trip import random_params, tiny
from vit_jax.checkpoints import kinds, writing
from vit_jax.checkpoints.arrays import write_npz, write_safetensors
from vit_jax.checkpoints.formats import open_weights
from vit_jax.errors import CheckpointError
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of, shapes_of


@pytest.fixture(scope="module", params=kinds.FORMATS)
def whole(request):
    """A format, the shapes of a small model, and its arrays in that format."""
    positions = {"class_row": request.param != "big_vision"}
    model = create_model(None, 5, **tiny(positions=positions, encoder={"num_layers": 1}))
    params = random_params(model)
    return writing.encode(params, request.param, fields_of(model)), shapes_of(model, (32, 32))


def test_a_missing_or_misshapen_array_is_an_error(whole, tmp_path):
    """Not one of them passes; each error names the file."""
    arrays, wanted = whole
    for name in arrays:
        for wrong in (None, arrays[name].reshape(-1)[:-1], np.zeros((), np.float32)):
            others = {other: array for other, array in arrays.items() if other != name}
            write_npz(tmp_path / "f.npz", others if wrong is None else {**others, name: wrong})
            with pytest.raises(CheckpointError, match=r"f\.npz"):
                open_weights(tmp_path / "f.npz", hints={"classifier": "token"}).check(wanted)


def test_what_the_architecture_is_read_off_is_named(tmp_path):
    model = create_model(None, 5, **tiny())
    params = random_params(model)
    kernel = params.pop("Transformer/encoderblock_1/MultiHeadDotProductAttention_0/query/kernel")
    write_npz(tmp_path / "f.npz", params)
    with pytest.raises(CheckpointError, match=r"has no .*encoderblock_1/.*/query/kernel"):
        open_weights(tmp_path / "f.npz")
    path = "Transformer/encoderblock_1/MultiHeadDotProductAttention_0/query/kernel"
    write_npz(tmp_path / "f.npz", {**params, path: kernel.reshape(-1)})
    with pytest.raises(CheckpointError, match=r"query/kernel has shape \(256,\), where 3 dim"):
        open_weights(tmp_path / "f.npz")


@pytest.mark.parametrize(
    "config",
    [
        {"num_heads": "two"},
        {"model_args": [1]},
        {"pretrained_cfg": {"input_size": 3}},
        {"vit_jax": 3},
    ],
)
def test_a_config_of_nonsense_is_an_error(config, tmp_path):
    model = create_model(None, 5, **tiny())
    arrays = writing.encode(random_params(model), "timm", fields_of(model))
    write_safetensors(tmp_path / "model.safetensors", arrays)
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2, **config}))
    with pytest.raises(CheckpointError, match="make no model"):
        open_weights(tmp_path)
