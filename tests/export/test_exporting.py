"""`vit_jax export`: every format gives the model's logits, or is refused and leaves nothing."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.checkpoints.store import Store
from vit_jax.config import default_config, to_json
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError
from vit_jax.experiment import make_model, make_preprocess
from vit_jax.export import kinds, stablehlo
from vit_jax.export.exporting import export
from vit_jax.export.program import make_program, random_images
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.predict import open_classifier
from vit_jax.pretrained import load_pretrained, load_run
from vit_jax.recipes import merge

MIXER = {"patches": {"size": (8, 8)}, "num_blocks": 2, "hidden_dim": 16}
MIXER |= {"tokens_mlp_dim": 8, "channels_mlp_dim": 24}
MODELS = {
    "vit": (None, tiny()),
    "mixer": ("Mixer-B_32", MIXER),
    "cct": ("cct_2_3x2_32", {}),
    "stem": (None, tiny(patches={"size": (2, 2)}, resnet={"num_layers": (), "width_factor": 1})),
}


def save(folder: Path, name: str) -> Path:
    """Writes an official file of random weights of one of the models."""
    architecture, fields = MODELS[name]
    path = folder / f"{name}.npz"
    write_npz(path, random_params(create_model(architecture, 5, **fields)))
    return path


def flags_of(name: str) -> list[str]:
    return ["--model=cct_2_3x2_32"] if name == "cct" else []


def need(format: str) -> None:
    """Skips where the packages of a format are not installed."""
    for package in kinds.KINDS[format].needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'vit_jax[{kinds.KINDS[format].extra}]'")


def run(*arguments) -> int:
    return main(["export", *map(str, arguments)])


@pytest.fixture
def weights(tmp_path):
    return save(tmp_path, "vit")


@pytest.fixture
def workdir(tmp_path):
    """The checkpoint of a model with running statistics, and with its blocks in a loop."""
    return save_run(tmp_path / "stem", {"stem": "conv", "scan_blocks": True, "hidden_size": 16})


def save_run(folder: Path, model: dict[str, Any]) -> Path:
    """Writes the checkpoint of a run on digits of 16 × 16 pixels, of random weights."""
    model["transformer"] = {"num_layers": 2, "num_heads": 2, "mlp_dim": 24}
    config = merge(default_config(), {"dataset": "digits", "pp": {"crop": 16}, "model": model}, "")
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    shapes = jax.eval_shape(make_model(config, 10).init, jax.random.PRNGKey(0), images)
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype("f4"), shapes)
    metadata = {
        "config": json.loads(to_json(config)),
        "class_names": list("0123456789"),
        "preprocess": make_preprocess(config).to_dict(),
    }
    with Store(folder / "checkpoints") as store:
        store.save(2, state, metadata)
    return folder


@pytest.mark.parametrize("patch", [(8, 2), (8, 4)])
def test_a_run_of_oblong_patches_is_exported_as_weights(patch, tmp_path):
    """2×8 patches are as many as 4×4; in timm's layout, and in the official one."""
    model = {"patches": {"size": patch}, "hidden_size": 16, "pool": "mean"}
    for pool in ("mean", "sequence"):
        source = save_run(tmp_path / pool, {**model, "pool": pool})
        out = tmp_path / f"{pool}_out"
        assert run(source, "--to=safetensors", f"--output={out}") == 0
        assert load_pretrained(out)[0].positions == {"grid": (2, 16 // patch[1])}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("to", kinds.KINDS)
def test_every_format_holds_every_model(name, to, tmp_path, capsys):
    need(to)
    source, folder = save(tmp_path, name), tmp_path / "out"
    assert run(source, f"--to={to}", f"--output={folder}", *flags_of(name)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["wrote", "check", "speed", "open"]
    fields = {"model_name": "cct_2_3x2_32"} if name == "cct" else {}
    program = make_program(open_classifier(source, **fields))
    images = random_images(program, 3)[::-1]  # others than were compared
    expected = np.asarray(jax.jit(program)(images))
    found = kinds.KINDS[to].load(folder)(images)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_weights_that_timm_has_no_place_for_are_official(tmp_path):
    model = create_model("cct_2_3x2_32", 5, pool="mean")
    variables = {"params": trees.unflatten(random_params(model))}
    preprocess = Preprocess((32, 32))
    vit_jax.save_pretrained(tmp_path / "cct", model, variables, preprocess, format="official")
    assert run(tmp_path / "cct", "--to=safetensors", f"--output={tmp_path / 'out'}") == 0
    found, again, _ = load_pretrained(tmp_path / "out")
    assert (found.stem, found.pool) == ("cct", "mean")
    assert trees.difference(jax.device_get(again["params"]), variables["params"]) == []


@pytest.mark.parametrize("to", ["stablehlo", "onnx", "savedmodel"])
def test_a_run_with_running_statistics_is_exported_whole(to, workdir, tmp_path):
    need(to)
    assert run(workdir, f"--to={to}", f"--output={tmp_path / 'out'}") == 0
    trained = load_run(workdir)
    pixels = random_images(make_program(trained), 2)
    normal = trained.preprocess.normalize(jnp.asarray(pixels))
    model = jax.jit(lambda x: trained.model.apply(trained.variables, x, train=False))
    found = kinds.KINDS[to].load(tmp_path / "out")(pixels)
    np.testing.assert_allclose(found, model(normal), rtol=1e-3, atol=1e-5)
    sheet = json.loads((tmp_path / "out" / "export.json").read_text())
    assert sheet["class_names"] == list("0123456789")


def test_running_statistics_are_among_the_weights_alone(workdir, tmp_path):
    assert run(workdir, "--to=safetensors", f"--output={tmp_path / 'out'}") == 0
    _, variables, _ = load_pretrained(tmp_path / "out")
    trained = load_run(workdir)
    assert trees.difference(variables, trained.variables) == []


def test_the_loader_gives_a_program_that_jax_alone_runs(weights, tmp_path):
    folder = tmp_path / "out"
    assert run(weights, "--to=stablehlo", f"--output={folder}") == 0
    program = vit_jax.load_exported(folder)
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0]) == "uint8[batch,32,32,3]"
    images = random_images(make_program(open_classifier(weights)), 4)
    from jax import export as jax_export

    plain = jax_export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    model, variables, preprocess = load_pretrained(weights)
    expected = jax.jit(model.apply)(variables, preprocess(images))
    for logits in (program.call(images), plain.call(images)):
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("to", ["stablehlo", "onnx", "savedmodel"])
def test_preprocessing_beside_takes_what_a_preprocess_returns(to, weights, tmp_path):
    need(to)
    folder = tmp_path / "out"
    assert run(weights, f"--to={to}", f"--output={folder}", "--preprocess=beside") == 0
    model, variables, preprocess = load_pretrained(weights)
    images = np.asarray(preprocess(np.zeros((2, 40, 50, 3), np.uint8)))
    found = kinds.KINDS[to].load(folder)(images)
    expected = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    sheet = json.loads((folder / "export.json").read_text())
    assert sheet["input"]["dtype"] == "float32"
    assert "(pixels / 255 - [0.5, 0.5, 0.5]) / [0.5, 0.5, 0.5]" in sheet["steps"][-1]


def test_the_sheet_says_how_to_feed_it(weights, tmp_path):
    assert run(weights, "--to=stablehlo", f"--output={tmp_path / 'out'}") == 0
    sheet = json.loads((tmp_path / "out" / "export.json").read_text())
    assert sheet["input"] == {
        "name": "images", "dtype": "uint8", "shape": ["batch", 32, 32, 3], "colours": "RGB"
    }  # fmt: skip
    assert sheet["steps"] == [
        "decode to RGB, upright, uint8",
        "resize to 32 x 32 pixels (bilinear, not antialiased)",
    ]
    assert sheet["preprocess"]["size"] == [32, 32]
    assert sheet["class_names"] is None


def test_half_precision_models_are_exported_in_float32(weights):
    opened = open_classifier(weights, dtype=jnp.bfloat16)
    assert opened.model.dtype == jnp.bfloat16
    program = make_program(opened)
    assert program.model.dtype == jnp.float32


def test_other_logits_are_refused_and_leave_nothing(weights, tmp_path, monkeypatch):
    good = stablehlo.load

    def slightly_off(path):
        call = good(path)
        return lambda images: call(images) * (1 + 3e-5)

    program = make_program(open_classifier(weights))
    for wrong, says in (
        (slightly_off, r"3\.\de-05 of the largest apart"),
        (lambda path: lambda images: good(path)(images) * np.nan, "nan of the largest apart"),
        (lambda path: lambda images: good(path)(images)[:1], "for a batch of 3"),
    ):
        monkeypatch.setattr(stablehlo, "load", wrong)
        with pytest.raises(CheckpointError, match=says):
            export(program, tmp_path / "out", "stablehlo")
        assert [path.name for path in tmp_path.iterdir()] == ["vit.npz"]


def test_only_an_earlier_export_is_ever_replaced(weights, tmp_path, capsys):
    folder = tmp_path / "out"
    command = [weights, "--to=stablehlo", f"--output={folder}"]
    assert run(*command) == 0
    first = (folder / "export.json").stat().st_ino
    assert run(*command) == 2
    assert "--force" in capsys.readouterr().err
    assert (folder / "export.json").stat().st_ino == first
    assert run(*command, "--force") == 0
    assert (folder / "export.json").stat().st_ino != first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("precious")
    assert run(weights, "--to=stablehlo", f"--output={tmp_path / 'mine'}", "--force") == 2
    assert "is no export" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]
    assert {path.name for path in tmp_path.iterdir()} == {"vit.npz", "out", "mine"}


def test_the_folder_is_named_after_the_source(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(weights, "--to=safetensors") == 0
    assert (tmp_path / "vit_safetensors" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--to=onx"], 2, "did you mean 'onnx'"),
        (["--to=safetensors", "--preprocess=inside"], 2, "leave it out"),
        (["--to=stablehlo", "--preprocess=no"], 2, "invalid choice"),
        ([], 2, "--to"),
        (["--to=stablehlo", "--heads=3"], 2, "heads"),
    ],
)
def test_wrong_flags_are_one_line(flags, code, says, weights, tmp_path, capsys):
    assert run(weights, *flags, f"--output={tmp_path / 'out'}") == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("to", "extra"), [("onnx", "onnx"), ("savedmodel", "tf")])
def test_a_missing_package_is_one_line_with_the_command(to, extra, weights, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(weights, f"--to={to}") == 2
    error = capsys.readouterr().err
    assert f"pip install 'vit_jax[{extra}]'" in error
    assert error.count("\n") == 1


def test_what_is_no_exported_program_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        vit_jax.load_exported(tmp_path)
    for content in (b"", b"no program", bytes(1000)):
        (tmp_path / "model.stablehlo").write_bytes(content)
        with pytest.raises(CheckpointError, match="holds no program"):
            vit_jax.load_exported(tmp_path)


def test_parameters_beyond_two_gigabytes_are_refused_by_formats_of_one_file(weights, monkeypatch):
    from vit_jax.export import program as module

    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    with pytest.raises(CheckpointError, match="export to savedmodel or safetensors"):
        make_program(open_classifier(weights)).check_fits("onnx")
