"""`vit_jax predict` with pretrained weights: names of classes, and what cannot be predicted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import golden
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.data.imagenet import class_names
from vit_jax.data.preprocess import Preprocess
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.pretrained import load_pretrained
from vit_jax.release import save_pretrained


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write(path, classes=5, **changes):
    """Writes an official file of random weights."""
    model = create_model(None, classes, **tiny(**changes))
    write_npz(path, random_params(model))
    return path


def predict(source, picture, *flags):
    return main(["predict", f"--checkpoint={source}", str(picture), *flags])


def test_classes_without_names_are_counted_and_probable_as_the_model_says(
    tmp_path, picture, capsys
):
    weights = write(tmp_path / "weights.npz")
    assert predict(weights, picture, "--json", "--top=9") == 0
    found = json.loads(capsys.readouterr().out)
    model, variables, preprocess = load_pretrained(weights)
    logits = np.asarray(jax.jit(model.apply)(variables, preprocess(str(picture))))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found["indices"] == np.argsort(-expected).tolist()
    assert [name for name, _ in found["top"]] == [f"class {i}" for i in found["indices"]]
    np.testing.assert_allclose([p for _, p in found["top"]], np.sort(expected)[::-1], rtol=1e-4)


@pytest.mark.parametrize("format", ["timm", "transformers", "official"])
def test_names_come_with_the_weights(format, tmp_path, picture, capsys):
    model = create_model(None, 3, **tiny())
    variables = {"params": trees.unflatten(random_params(model))}
    names = ("cat", "dog", "ďábel")
    save_pretrained(
        tmp_path / "out", model, variables, Preprocess((32, 32)), class_names=names, format=format
    )
    assert predict(tmp_path / "out", picture) == 0
    captured = capsys.readouterr()
    assert {line.split()[-1] for line in captured.out.splitlines()[1:]} == set(names)
    assert captured.err == ""


def test_a_thousand_classes_are_those_of_imagenet_and_it_is_said(tmp_path, picture, capsys, caplog):
    assert predict(write(tmp_path / "f.npz", 1000), picture, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [name for name, _ in found["top"]] == [class_names()[i] for i in found["indices"]]
    assert "ImageNet's names are shown" in caplog.text


@pytest.mark.parametrize(
    ("classes", "changes", "says"),
    [(None, {}, "no head"), (5, {"classifier": "unpooled"}, "logits for each token")],
)
def test_what_gives_no_classes_is_one_line(classes, changes, says, tmp_path, picture, capsys):
    model = create_model(None, classes, **tiny(**changes))
    variables = {"params": trees.unflatten(random_params(model))}
    save_pretrained(tmp_path / "out", model, variables, Preprocess((32, 32)), format="official")
    assert predict(tmp_path / "out", picture) == 3
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_flags_say_what_a_file_does_not_but_nothing_of_a_run(tmp_path, picture, capsys):
    weights = write(tmp_path / "weights.npz")
    shown = []
    for activation in ("gelu_tanh", "gelu_erf"):
        assert predict(weights, picture, "--json", f"--activation={activation}") == 0
        shown.append(json.loads(capsys.readouterr().out)["top"])
    assert shown[0] != shown[1]
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert predict(tmp_path / "run", picture, "--heads=2") == 2
    assert "a run says all of itself" in capsys.readouterr().err


def test_weights_that_cannot_be_fetched_are_one_line(picture, capsys, monkeypatch):
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    for source in ("deit_tiny_patch16_224.fb_in1k", "hf://owner/name", "https://x.example/f.npz"):
        assert predict(source, picture) == 3
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "VIT_JAX_OFFLINE" in error


def test_the_photograph_is_of_a_tabby(capsys):
    folder = golden.shared("pretrained", "deit_tiny")
    assert predict(folder, folder / "coco_000000039769.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("%")[1].strip() for line in lines[1:4]] == [
        *("tabby, tabby cat", "tiger cat", "Egyptian cat"),
    ]
    with np.load(folder / "expected.npz") as expected:
        logits = jnp.asarray(expected["logits_erf_gelu"][0])
        share = 100 * jnp.exp(logits[281]) / jnp.exp(logits).sum()
    assert float(lines[1].split("%")[0]) == pytest.approx(float(share), abs=2)
