"""`vit_jax convert`: what it says, what it refuses, and that nothing is lost on the way."""

import json

import jax.numpy as jnp
import pytest

from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.arrays import read_arrays, write_npz, write_safetensors
from vit_jax.checkpoints.writing import json_text, write_text
from vit_jax.errors import ConfigError
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.origin import fields_of
from vit_jax.pretrained import load_pretrained
from vit_jax.release import convert


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.npz"
    write_npz(path, random_params(create_model(None, 5, **tiny())))
    return path


def test_names_of_classes_that_are_not_utf8_are_escaped(tmp_path):
    names = ["Gr\udcfcn", "Grün"]  # the first of a folder whose name is b"Gr\xfcn"
    write_text(tmp_path / "config.json", json_text(names))
    text = (tmp_path / "config.json").read_text("utf-8")
    assert json.loads(text) == names
    assert "Grün" in text


def run(*arguments):
    return main(["convert", *map(str, arguments)])


def test_it_says_what_was_read_and_written_and_how_to_open_it(weights, tmp_path, capsys):
    assert run(weights, tmp_path / "timm", "--to=timm") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"read   {weights}: official, ViT of 2 blocks, 16 wide, patches of 8×8, 7,413 parameters, "
        "5 classes, 32×32 px",
        f"wrote  {tmp_path}/timm/model.safetensors: timm, 0.0 MB",
        f"open   timm.create_model('local-dir:{tmp_path}/timm', pretrained=True)",
        f"open   vit_jax.load_pretrained('{tmp_path}/timm')",
    ]
    assert run(tmp_path / "timm", tmp_path / "back.npz", "--to=official") == 0
    opened = capsys.readouterr().out.splitlines()[2:]
    assert opened == [f"open   vit_jax.load_pretrained('{tmp_path}/back.npz')"]
    _, variables, _ = load_pretrained(tmp_path / "timm")
    assert trees.difference(trees.flatten(variables["params"]), dict(read_arrays(weights))) == []


def test_an_existing_target_is_kept_unless_forced(weights, tmp_path, capsys):
    target = tmp_path / "there.npz"
    target.write_bytes(b"precious")
    assert run(weights, target, "--to=official") == 2
    error = capsys.readouterr().err
    assert "is there already" in error
    assert "--force" in error
    assert target.read_bytes() == b"precious"
    assert run(weights, target, "--to=official", "--force") == 0
    assert "head/kernel" in read_arrays(target)
    with pytest.raises(ConfigError, match="is there already"):
        convert(weights, target, "official")
    (tmp_path / "empty").mkdir()
    assert run(weights, tmp_path / "empty", "--to=timm") == 0


def test_a_folder_with_weights_of_another_kind_is_refused_even_so(weights, tmp_path, capsys):
    assert run(weights, tmp_path / "out", "--to=timm") == 0
    assert run(weights, tmp_path / "out", "--to=official", "--force") == 2
    assert "holds model.safetensors" in capsys.readouterr().err
    assert run(weights, tmp_path / "out", "--to=transformers", "--force") == 0
    assert load_pretrained(tmp_path / "out")[0].num_classes == 5
    assert run(weights, tmp_path / "out", "--to=timm", "--force") == 0
    assert not (tmp_path / "out" / "preprocessor_config.json").exists()  # transformers' own


def test_what_a_file_does_not_say_is_a_flag(weights, tmp_path, capsys):
    assert run(weights, tmp_path / "timm", "--to=timm") == 0
    arrays = read_arrays(tmp_path / "timm")
    write_safetensors(tmp_path / "bare.safetensors", arrays)
    assert run(tmp_path / "bare.safetensors", tmp_path / "out", "--to=transformers") == 3
    assert "number of heads" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    flags = ["--heads=2", "--activation=gelu_tanh"]
    assert run(tmp_path / "bare.safetensors", tmp_path / "out", "--to=transformers", *flags) == 0
    encoder = fields_of(load_pretrained(tmp_path / "out")[0])["transformer"]
    assert (encoder["num_heads"], encoder["activation"]) == (2, "gelu_tanh")


def test_an_oblong_grid_is_a_flag(tmp_path, capsys):
    model = create_model(None, 5, **tiny(positions={"grid": (2, 3)}))
    write_npz(tmp_path / "oblong.npz", random_params(model, (16, 24)))
    assert run(tmp_path / "oblong.npz", tmp_path / "out", "--to=timm") == 3
    assert "make no square" in capsys.readouterr().err
    assert run(tmp_path / "oblong.npz", tmp_path / "out", "--to=timm", "--grid=2x3") == 0
    assert load_pretrained(tmp_path / "out")[2].size == (16, 24)


def test_a_named_model_is_a_flag(tmp_path, capsys):
    model = create_model("cct_2_3x2_32", num_classes=5)
    write_npz(tmp_path / "cct.npz", random_params(model))
    assert run(tmp_path / "cct.npz", tmp_path / "out", "--to=official") == 3
    assert "name it" in capsys.readouterr().err
    flags = ["--to=official", "--model=cct_2_3x2_32"]
    assert run(tmp_path / "cct.npz", tmp_path / "out", *flags) == 0
    _, variables, _ = load_pretrained(tmp_path / "out")
    assert jnp.isfinite(variables["params"]["head"]["bias"]).all()


@pytest.mark.parametrize("to", ["timm", "transformers"])
def test_a_mixer_is_one_line_where_there_is_none(to, tmp_path, capsys):
    fields = {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 8, "channels_mlp_dim": 8}
    model = create_model("Mixer-B_32", 5, patches={"size": (8, 8)}, **fields)
    write_npz(tmp_path / "mixer.npz", random_params(model))
    assert run(tmp_path / "mixer.npz", tmp_path / "out", f"--to={to}") == 3
    error = capsys.readouterr().err
    assert "Mixer" in error or "official" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "target", "flags", "code", "says"),
    [
        ("weights.npz", "out", ["--to=tim"], 2, "did you mean 'timm'"),
        ("weights.npz", "out.npz", ["--to=timm"], 2, "the timm format is .safetensors"),
        ("weights.npz", "out", [], 2, "--to"),
        ("weights.npz", "out", ["--to=big_vision"], 3, "gives the class token no position"),
        ("weights.npz", "out", ["--to=timm", "--model=ViT-B_17"], 2, "did you mean"),
        ("weights.npz", "out", ["--to=timm", "--activation=gelu"], 2, "activation='gelu'"),
        ("weight.npz", "out", ["--to=timm"], 3, "did you mean 'weights.npz'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    source, target, flags, code, says, weights, tmp_path, capsys
):
    assert run(tmp_path / source, tmp_path / target, *flags) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / target).exists()
