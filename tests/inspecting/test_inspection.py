"""`vit_jax inspect`: sound weights, damaged ones, a run, and files that are something else."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints import arrays, writing
from vit_jax.checkpoints.arrays import read_arrays, write_npz, write_safetensors
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.inspecting.inspection import UnknownWeights, inspect
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of
from vit_jax.pretrained import load_pretrained
from vit_jax.release import save_pretrained

MODEL = create_model(None, 3, **tiny(encoder={"activation": "gelu_erf"}))
PREPROCESS = Preprocess((32, 32), 40, True, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bicubic")


@pytest.fixture
def params():
    return random_params(MODEL)


@pytest.fixture
def damaged(params, tmp_path):
    """An official file with NaN in it, which cannot be loaded."""
    params["head/bias"][1] = np.nan
    path = tmp_path / "damaged.npz"
    write_npz(path, params)
    return path


@pytest.mark.parametrize("format", ["timm", "transformers", "official"])
def test_what_a_folder_says_is_shown(format, params, tmp_path):
    names = ("cat", "dog", "fox")
    variables = {"params": trees.unflatten(params)}
    save_pretrained(
        tmp_path / "out", MODEL, variables, PREPROCESS, class_names=names, format=format
    )
    found = inspect(tmp_path / "out")
    assert found.format == format
    assert found.architecture == "ViT of 2 blocks, 16 wide, patches of 8×8"
    assert found.parameters == found.survey.total.count == trees.count(params)
    assert (found.num_classes, found.class_names) == (3, names)
    assert (found.image_size, found.grid, found.preprocess) == ((32, 32), (4, 4), PREPROCESS)
    assert found.activation == "gelu_erf"
    assert sum(found.dtypes.values()) == len(read_arrays(found.file))
    assert found.survey.strange == found.unused == ()


def test_layers_have_the_same_numbers_in_every_format(params, tmp_path):
    found = {}
    for format in ("timm", "transformers", "official"):
        encoded = writing.encode(params, format, fields_of(MODEL))
        write_npz(tmp_path / "f.npz", encoded)
        hints = {"transformer": {"num_heads": 2}}
        found[format] = inspect(tmp_path / "f.npz", **hints).survey.layers
    for layer, expected in found["official"].items():
        for format in ("timm", "transformers"):
            assert found[format][layer].mean == pytest.approx(expected.mean, rel=1e-6)
            assert found[format][layer].std == pytest.approx(expected.std, rel=1e-6)


def test_stacked_blocks_are_told_apart(tmp_path):
    model = create_model(None, 3, **tiny(positions={"class_row": False}))
    encoded = writing.encode(random_params(model), "big_vision", fields_of(model))
    block = "params/Transformer/encoderblock_{}/"
    stacked = {
        name.replace("encoderblock_0", "encoderblock"): np.stack(
            [encoded[name], encoded[name.replace("encoderblock_0", "encoderblock_1")]]
        )
        for name in encoded
        if name.startswith(block.format(0))
    }
    others = {name: array for name, array in encoded.items() if "encoderblock_" not in name}
    write_npz(tmp_path / "scan.npz", {**others, **stacked})
    layers = inspect(tmp_path / "scan.npz").survey.layers
    assert "Transformer/encoderblock_1" in layers
    assert layers["Transformer/encoderblock_0"] != layers["Transformer/encoderblock_1"]


def test_damaged_weights_are_shown_and_not_refused(damaged, capsys):
    with pytest.raises(CheckpointError, match="NaN"):
        load_pretrained(damaged)
    assert main(["inspect", str(damaged)]) == 0
    out = capsys.readouterr().out
    assert "strange       head/bias: 1 of 3 values are NaN" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("head"))
    assert row.split()[-2:] == ["1", "0"]


def test_arrays_of_no_use_and_of_no_format_are_named(params, tmp_path):
    encoded = writing.encode(params, "timm", fields_of(MODEL))
    extra = {"mask_token": np.ones(4, np.float32), "blocks.0.lora": np.ones(4, np.float32)}
    write_safetensors(tmp_path / "f.safetensors", {**encoded, **extra})
    found = inspect(tmp_path / "f.safetensors", transformer={"num_heads": 2})
    assert found.unused == ("mask_token",)
    assert found.survey.strange == ("blocks.0.lora: is no array of this format",)


def test_few_arrays_are_in_memory_at_once(params, tmp_path, monkeypatch):
    write_npz(tmp_path / "f.npz", params)
    asked = []
    monkeypatch.setattr(arrays, "_AT_ONCE", 4096)
    whole = arrays._READERS["npz"].read_arrays

    def reading(path, names):
        asked.append(sum(params[name].nbytes for name in names))
        assert asked[-1] <= 4096 or len(names) == 1
        return whole(path, names)

    monkeypatch.setattr(arrays._READERS["npz"], "read_arrays", reading)
    assert inspect(tmp_path / "f.npz").survey.total.count * 4 == sum(asked)
    assert len(asked) > 5


def test_another_file_is_listed_and_refused(tmp_path, capsys):
    write_npz(
        tmp_path / "f.npz",
        {"some/[array]": np.zeros((3, 2), np.float32), "half": np.zeros((), jnp.bfloat16)},
    )
    with pytest.raises(UnknownWeights, match="no known format"):
        inspect(tmp_path / "f.npz")
    assert main(["inspect", str(tmp_path / "f.npz")]) == 3
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["some/[array]", "float32", "3×2"] in lines
    assert ["half", "bfloat16", "scalar"] in lines
    assert captured.err.startswith("vit_jax: error: ")
    assert captured.err.count("\n") == 1
    assert main(["inspect", "--json", str(tmp_path / "f.npz")]) == 3
    listed = json.loads(capsys.readouterr().out)
    assert listed["arrays"]["some/[array]"] == {"dtype": "float32", "shape": [3, 2]}


def test_a_file_that_does_not_say_can_be_helped(params, tmp_path, capsys):
    encoded = writing.encode(params, "timm", fields_of(MODEL))
    write_safetensors(tmp_path / "f.safetensors", encoded)
    assert main(["inspect", str(tmp_path / "f.safetensors")]) == 3
    assert "number of heads" in capsys.readouterr().err
    flags = ["--heads=2", "--activation=gelu_tanh"]
    assert main(["inspect", str(tmp_path / "f.safetensors"), *flags]) == 0
    assert "activation    gelu_tanh" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 cut off"])
def test_no_weights_at_all_is_one_line(content, tmp_path, capsys):
    (tmp_path / "f.npz").write_bytes(content)
    assert main(["inspect", str(tmp_path / "f.npz")]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_folder_of_real_weights(capsys):
    """The folder holds another npz too, of images and logits, which is no file of weights."""
    assert main(["inspect", str(golden.shared("pretrained", "deit_tiny"))]) == 0
    out = capsys.readouterr().out
    for fact in ("ViT-Ti_16", "5,717,416", "1000, not named", "224×224 px, 14×14", "strange"):
        assert fact in out
