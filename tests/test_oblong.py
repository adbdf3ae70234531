"""Weights for a grid of patches that is no square: out and back they are the same model."""

import json

import jax
import numpy as np
import pytest

from tests.models.running import QUICK
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.arrays import read_arrays, write_npz, write_safetensors
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.pretrained import load_pretrained, open_origin
from vit_jax.release import save_pretrained

# (height, width) of patches and of images. 2×8 patches could be 4×4; 3×5 and a class token, too.
GRIDS = {
    "2×8 of wide images": ((8, 8), (16, 64)),
    "2×8 of square images": ((8, 2), (16, 16)),
    "2×4 of wide images": ((8, 8), (16, 32)),
    "4×2 of square images": ((4, 8), (16, 16)),
    "3×5": ((8, 8), (24, 40)),
}
FORMATS = ("official", "timm", "transformers", "big_vision")
MIXER = {"patches": {"size": (8, 8)}, "num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4}
MIXER |= {"channels_mlp_dim": 12}


def logits_of(model, variables, size):
    images = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("f4")
    return np.asarray(jax.jit(model.apply, compiler_options=QUICK)(variables, images))


def saved(folder, model, size, to):
    """Writes a model of random parameters, and returns its logits."""
    variables = {"params": trees.unflatten(random_params(model, size))}
    save_pretrained(folder, model, variables, Preprocess(size), format=to)
    return logits_of(model, variables, size)


def vit(patch, to="official", **changes):
    if to == "big_vision":
        changes["classifier"] = "gap"
    encoder = {"num_layers": 1, "activation": "gelu_erf", "epsilon": 1e-6}
    return create_model(None, 5, **tiny(patches={"size": patch}, encoder=encoder, **changes))


def is_same(source, logits, size, **fields):
    model, variables, preprocess = load_pretrained(source, **fields)
    assert preprocess.size == size
    np.testing.assert_allclose(logits_of(model, variables, size), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("grid", GRIDS)
def test_out_and_back(grid, to, tmp_path):
    patch, size = GRIDS[grid]
    is_same(tmp_path, saved(tmp_path, vit(patch, to), size, to), size)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("grid", ["2×8 of wide images", "2×8 of square images"])
def test_the_size_that_a_config_tells_is_enough(grid, to, tmp_path):
    """As files have it that others wrote, or we did before the grid was named."""
    patch, size = GRIDS[grid]
    logits = saved(tmp_path, vit(patch, to), size, to)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vit_jax"]["fields"].pop("positions")["grid"] == [2, 8]
    if to in ("timm", "transformers"):
        del config["vit_jax"]
    if to == "big_vision":
        config["vit_jax"]["fields"]["positions"] = {"class_row": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = {"epsilon": 1e-6, "activation": "gelu_erf"}
    model, variables, _ = load_pretrained(tmp_path, image_size=size, transformer=encoder)
    np.testing.assert_allclose(logits_of(model, variables, size), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["official", "timm", "transformers"])
def test_a_table_of_another_grid_than_the_images_is_said_to_be(to, tmp_path):
    """Sixteen positions of 4×4 patches, resized for images of 2×8 when the model is called."""
    size, positions = (16, 64), {"resize": "bilinear", "grid": (4, 4)}
    logits = saved(tmp_path, vit((8, 8), to, positions=positions), size, to)
    assert open_origin(tmp_path, {}).grid == (4, 4)
    is_same(tmp_path, logits, size)


@pytest.mark.parametrize("size", [(32, 64), (32, 128)])
def test_behind_convolutions(size, tmp_path):
    model = create_model("cct_2_3x2_32", 5)
    is_same(tmp_path, saved(tmp_path, model, size, "official"), size)
    origin = open_origin(tmp_path, {})
    assert origin.grid == (8, size[1] // 4)
    wider, variables, _ = load_pretrained(tmp_path, image_size=(32, 96))
    assert logits_of(wider, variables, (32, 96)).shape == (2, 5)


@pytest.mark.parametrize("size", [(16, 32), (16, 64)])
def test_a_mixer(size, tmp_path):
    logits = saved(tmp_path, create_model("Mixer-B_16", 5, **MIXER), size, "official")
    is_same(tmp_path, logits, size)


def test_a_mixer_that_says_nothing_of_its_images_opens_as_the_error_advises(tmp_path, capsys):
    logits = saved(tmp_path / "out", create_model("Mixer-B_16", 5, **MIXER), (16, 32), "official")
    alone, copy = tmp_path / "alone.npz", tmp_path / "copy"
    write_npz(alone, read_arrays(tmp_path / "out" / "model.npz"))
    with pytest.raises(CheckpointError, match=r"positions=\{'grid': \(rows, columns\)\}"):
        load_pretrained(alone)
    is_same(alone, logits, (16, 32), positions={"grid": (2, 4)})
    assert main(["convert", str(alone), str(copy), "--to=official", "--grid=2x4"]) == 0
    capsys.readouterr()
    is_same(copy, logits, (16, 32))


def test_a_file_of_timm_whose_config_has_one_number_for_the_size(tmp_path):
    logits = saved(tmp_path, vit((8, 2)), (16, 16), "timm")
    arrays = read_arrays(tmp_path)
    config = {"architecture": "vit", "num_heads": 2, "img_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_safetensors(tmp_path / "model.safetensors", arrays)
    is_same(tmp_path, logits, (16, 16))
