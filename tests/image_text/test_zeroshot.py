"""Zero-shot scores against NumPy's, whatever the batch, the devices, the processes."""

import json
from typing import Any

import jax
import numpy as np
import pytest

from tests import jobs, runs
from tests.image_text import lit_files
from vit_jax.data.datasets import open_dataset
from vit_jax.data.decoding import decode_pixels
from vit_jax.errors import CheckpointError, ConfigError, DataError
from vit_jax.image_text import opening, zeroshot
from vit_jax.main import main
from vit_jax.text.prompts import TEMPLATES

TEMPLATES_2 = ("a photo of a {}", "the {}!")

pytest.importorskip("tokenizers", reason="the extra lit")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("zeroshot")
    lit_files.write(root)
    lit_files.image_folder(root / "images")
    return root


@pytest.fixture(scope="module")
def lit(place) -> opening.ImageText:
    return opening.open_image_text(place / "tiny.npz")


@pytest.fixture(scope="module")
def source(place):
    return open_dataset(str(place / "images"), "test")


@pytest.fixture(scope="module")
def reference(lit, source) -> Any:
    """Logits (n, k) by NumPy, from embeddings made one by one."""
    embed = jax.jit(lit.model.apply)
    texts: dict[tuple[str, str], Any] = {}
    for name in lit_files.CLASSES:
        for template in TEMPLATES_2:
            tokens = lit.tokenizer([template.replace("{}", name)]).tokens
            texts[name, template] = np.asarray(embed(lit.variables, tokens=tokens)[1][0], float)
    classes = []
    for name in lit_files.CLASSES:
        mean = np.mean([texts[name, template] for template in TEMPLATES_2], axis=0)
        classes.append(mean / np.linalg.norm(mean))
    images = [
        lit.preprocess.pixels(decode_pixels(source[i][0], str(i))) for i in range(len(source))
    ]
    zimg, _, t = embed(lit.variables, np.stack(images) / np.float32(127.5) - 1)
    return float(t[0]) * np.asarray(zimg, float) @ np.stack(classes).T


@pytest.mark.parametrize("batch", [1, 4, 512])
@pytest.mark.parametrize("devices", [1, 8])
def test_scores_are_those_of_numpy(lit, source, reference, monkeypatch, batch, devices):
    if devices == 1:
        monkeypatch.setattr(zeroshot, "make_mesh", runs.one_device_mesh)
    found = zeroshot.evaluate_zero_shot(lit, source, None, TEMPLATES_2, batch)
    outcomes = found.outcomes
    np.testing.assert_array_equal(outcomes.index, np.arange(15))
    np.testing.assert_array_equal(outcomes.labels, source.labels)
    np.testing.assert_array_equal(outcomes.predicted, reference.argmax(1))
    assert outcomes.summary()["accuracy"] == (reference.argmax(1) == source.labels).mean()
    assert outcomes.summary()["top5_accuracy"] == 1.0
    shifted = reference - reference.max(1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    np.testing.assert_allclose(outcomes.confidence, chances.max(1), rtol=1e-4)
    assert found.class_names == lit_files.CLASSES
    assert (found.prompts, found.clipped) == (6, 0)


def test_the_reference_tells_classes_apart(reference, source):
    assert len(set(reference.argmax(1))) > 1
    assert 0 < (reference.argmax(1) == source.labels).mean() < 1


def command(place, *more: str) -> list[str]:
    return [
        "zeroshot",
        f"--checkpoint={place / 'tiny.npz'}",
        f"--dataset={place / 'images'}",
        *more,
    ]


def test_the_command_line(place, reference, source, capsys):
    (place / "names.txt").write_text("cat\ndog\nphoto\n")
    (place / "templates.txt").write_text("\n".join(TEMPLATES_2))
    flags = [f"--classes={place / 'names.txt'}", f"--templates={place / 'templates.txt'}"]
    assert main(command(place, *flags, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == (reference.argmax(1) == source.labels).mean()
    assert (found["prompts"], found["clipped"], found["images"]) == (6, 0, 15)
    assert [one["name"] for one in found["classes"]] == list(lit_files.CLASSES)
    assert main(command(place)) == 0
    printed = capsys.readouterr().out
    assert "(15 images)" in printed
    assert f"3 classes told by {3 * len(TEMPLATES)} texts\n" in printed


def test_texts_that_are_too_long_are_counted_and_told(place, capsys, caplog):
    (place / "long.txt").write_text("cat\ndog\n" + 40 * "photo ")
    assert main(command(place, f"--classes={place / 'long.txt'}", "--json")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["clipped"] == len(TEMPLATES)
    assert "6 of 18 texts have more than 16 tokens, and lose what comes after" in caplog.text


def test_two_processes_give_the_scores_of_one(place, reference, source):
    done = jobs.run(2, 2, command(place, "--json", "--batch=4"))
    assert [code for code, _ in done] == [0, 0], done
    (line,) = (line for _, output in done for line in output.splitlines() if line[:1] == "{")
    found = json.loads(line)  # the first process alone prints
    assert found["images"] == 15
    plain = zeroshot.evaluate_zero_shot(
        opening.open_image_text(place / "tiny.npz"), source, batch=4
    )
    assert found["accuracy"] == plain.outcomes.summary()["accuracy"]
    assert found["loss"] == pytest.approx(plain.outcomes.summary()["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("names", "flags", "code", "message"),
    [
        ("", [], 3, "holds no names of classes; it must have one a line"),
        ("cat\ndog", [], 3, "2 names of classes, and the dataset has 3 classes (cat, dog, photo"),
        ("dog\ncat\nphoto", [], 3, "class 0 is 'cat' in the dataset and 'dog' in the list: the"),
        (None, ["--batch=0"], 2, "--batch=0: must be at least 1"),
        (None, ["--split=tset"], 3, "no split 'tset'"),
        (None, ["--vocabulary=missing.txt"], 3, "the vocabulary cannot be read"),
    ],
)
def test_wrong_input_is_one_line(place, capsys, names, flags, code, message):
    if names is not None:
        (place / "wrong.txt").write_text(names)
        flags = [*flags, f"--classes={place / 'wrong.txt'}"]
    assert main(command(place, *flags)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_vocabulary_of_another_size_or_none(place, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("[PAD]\n[UNK]\n[CLS]\n")
    with pytest.raises(CheckpointError, match=r"has 3 tokens, but .*tiny.npz embeds 17; use the"):
        opening.open_image_text(place / "tiny.npz", words)
    (tmp_path / "alone.npz").write_bytes((place / "tiny.npz").read_bytes())
    with pytest.raises(ConfigError, match=r"comes without a vocabulary; .* --vocabulary=FILE.txt"):
        opening.open_image_text(tmp_path / "alone.npz")
    with pytest.raises(CheckpointError, match="holds no LiT model"):
        opening.open_image_text(_classifier(tmp_path))
    opened = opening.open_image_text(place / "tiny.npz")
    with pytest.raises(DataError, match="no classes: give the name of each"):
        zeroshot.evaluate_zero_shot(opened, open_dataset("digits", "test"), ())


def _classifier(folder):
    arrays = np.load(folder / "alone.npz")
    inside = {name[4:]: arrays[name] for name in arrays.files if name.startswith("img/")}
    np.savez(folder / "vit.npz", **inside)
    return folder / "vit.npz"


def test_the_image_tower_is_drawn(place, tmp_path, capsys):
    image = str(place / "images" / "test" / "cat" / "0.png")
    assert main(["visualize", str(place / "tiny.npz"), image, f"--output={tmp_path}"]) == 0
    assert "not drawn" not in capsys.readouterr().out
    assert (tmp_path / "attention.png").is_file()


def test_what_is_for_classifiers_says_so(place, capsys):
    image = str(place / "images" / "test" / "cat" / "0.png")
    assert main(["predict", f"--checkpoint={place / 'tiny.npz'}", image]) == 3
    assert "holds a LiT model, which has no classes of its own" in capsys.readouterr().err
    assert main(["zeroshot", f"--checkpoint={place / 'tiny.npz'}"]) == 2
    assert "--dataset: is needed" in capsys.readouterr().err


def test_the_centre_alone(place, lit):
    cropped = opening.open_image_text(place / "tiny.npz", crop=True)
    assert (lit.preprocess.resize, cropped.preprocess.resize) == (None, 8)
