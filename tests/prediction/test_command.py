"""`vit_jax predict` on many images: answers, features, overlays, and what cannot be read."""

import csv
import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from tests.golden import REPOSITORY
from tests.test_predict import write
from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.commands import predict as command
from vit_jax.data.preprocess import Preprocess
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.predict import open_classifier, predict
from vit_jax.prediction import answers
from vit_jax.prediction.answers import UnreadableError, answer
from vit_jax.release import save_pretrained

COUNT = 7


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "weights.npz")


@pytest.fixture
def photos(tmp_path):
    """A folder of images that differ, in two folders; two share a name."""
    files = {
        f"{'ab'[i % 2]}/{i // 2}.png": pictures.noise(30 + i, 40, seed=i) for i in range(COUNT)
    }
    return pictures.write(tmp_path / "photos", files)


def run(source, *arguments):
    return main(["predict", f"--checkpoint={source}", *map(str, arguments)])


def expected(source, paths):
    """Probabilities and features of each image, one by one and without the command's own code."""
    opened = open_classifier(source)
    pixels = opened.preprocess([str(path) for path in paths])
    rows, seen = jax.jit(lambda v, x: opened.model.apply(v, x, outputs=("pre_logits",)))(
        opened.variables, pixels
    )
    return np.asarray(jax.nn.softmax(rows)), np.asarray(seen["pre_logits"])


def test_batches_padding_and_threads_change_nothing(weights, photos, capsys):
    paths = sorted(photos.rglob("*.png"))
    rows, _ = expected(weights, paths)
    for flags in (["--batch=3"], ["--batch=1"], []):
        assert run(weights, photos, "--json", "--top=5", *flags) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["path"] for one in found] == [str(path) for path in paths]
        for one, row in zip(found, rows, strict=True):
            np.testing.assert_allclose([p for _, p in one["top"]], np.sort(row)[::-1], rtol=1e-4)
            assert one["indices"] == np.argsort(-row).tolist()


def test_devices_share_what_is_too_much_for_one(weights, photos, monkeypatch):
    used, fetched = [], answers._fetched

    def spy(loaded, asked):
        used.append((asked[0].shape[0], len(asked[0].sharding.device_set)))
        return fetched(loaded, asked)

    monkeypatch.setattr(answers, "_fetched", spy)
    opened, files = open_classifier(weights), sorted(map(str, photos.rglob("*.png")))
    names = [*files * 5, "nothing.png", *files]  # 43, of which 42 are images
    found, rest = [], answers.answer(opened, names, features=True)
    with pytest.raises(UnreadableError, match=r"nothing\.png"):
        found.extend(rest)
    assert used == [(48, 8)]
    rows, seen = expected(weights, files)
    (one,) = found
    assert one.names == (*files * 5, *files)
    np.testing.assert_allclose(one.probabilities, np.tile(rows, (6, 1)), rtol=1e-4)
    np.testing.assert_allclose(one.features, np.tile(seen, (6, 1)), rtol=1e-4, atol=1e-5)
    used.clear()
    assert len(list(answers.answer(opened, files * 6, batch=34))) == 2
    assert used == [(40, 8), (40, 8)]
    used.clear()
    assert len(list(answers.answer(opened, files * 6, batch=32))) == 2
    assert used == [(32, 1), (32, 1)]


def test_csv_has_a_line_for_each_class(weights, photos, capsys):
    path = photos / "a" / 'odd, "name".png'
    (photos / "a" / "0.png").rename(path)
    assert run(weights, path, "--csv", "--top=2") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    probabilities, _ = expected(weights, [path])
    assert [(row["path"], row["rank"]) for row in rows] == [(str(path), "1"), (str(path), "2")]
    best = np.argsort(-probabilities[0])[:2]
    assert [int(row["index"]) for row in rows] == best.tolist()
    assert [row["class"] for row in rows] == [f"class {i}" for i in best]
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, probabilities[0][best], rtol=1e-4)


def test_names_come_from_standard_input_and_patterns(weights, photos, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos}/b/0.png\n{photos}/a/1.png\n"))
    assert run(weights, "-", f"{photos}/a/[02].png", "--json") == 0
    found = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert found == [f"{photos}/{name}" for name in ("b/0.png", "a/1.png", "a/0.png", "a/2.png")]


def test_standard_input_that_is_closed_names_no_image(weights, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after `<&-`
    assert run(weights, "-") == 3
    assert "standard input names no image" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_not_utf8_go_through(weights, photos):
    """As of folders from an old ZIP; a shell hands over, and takes, the bytes as they are."""
    place = os.fsencode(photos / "a")
    os.rename(place + b"/0.png", place + b"/Gr\xfcn.png")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [sys.executable, "-m", "vit_jax.main", "predict", f"--checkpoint={weights}", "--csv",
         "--top=1", "-", photos / "a"],
        input=place + b"/Gr\xfcn.png\n", capture_output=True, env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = [line.split(b",")[0] for line in done.stdout.splitlines()[1:]]
    assert paths[0] == place + b"/Gr\xfcn.png"
    assert len(paths) == 5
    assert paths.count(paths[0]) == 2


def test_features_are_those_the_head_reads(weights, photos, tmp_path, capsys):
    assert run(weights, photos, f"--features={tmp_path / 'f.npz'}", "--batch=3") == 0
    captured = capsys.readouterr()
    assert f"f.npz: [{COUNT}, 16], float32" in captured.err
    assert len(captured.out.splitlines()) == COUNT * 6
    paths = sorted(photos.rglob("*.png"))
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert file["paths"].tolist() == [str(path) for path in paths]
        np.testing.assert_allclose(file["features"], expected(weights, paths)[1], atol=1e-4)


def test_a_mixer_has_features_too(photos, tmp_path):
    sizes = {"num_blocks": 1, "hidden_dim": 12, "tokens_mlp_dim": 8, "channels_mlp_dim": 8}
    model = create_model("Mixer-B_32", 5, patches={"size": (8, 8)}, **sizes)
    write_npz(tmp_path / "mixer.npz", random_params(model))
    opened = open_classifier(tmp_path / "mixer.npz")
    (found,) = answer(opened, [str(photos / "a" / "0.png")], features=True)
    head = opened.variables["params"]["head"]
    assert found.features is not None
    assert found.probabilities is not None
    logits = found.features @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(found.probabilities, jax.nn.softmax(logits), rtol=1e-4)


def test_a_backbone_gives_features_and_no_classes(photos, tmp_path, capsys):
    model = create_model(None, None, **tiny())
    variables = {"params": trees.unflatten(random_params(model))}
    save_pretrained(tmp_path / "out", model, variables, Preprocess((32, 32)), format="official")
    assert run(tmp_path / "out", photos, f"--features={tmp_path / 'f.npz'}") == 0
    assert capsys.readouterr().out == ""
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert file["features"].shape == (COUNT, 16)


def test_attention_is_drawn_for_each_image_under_a_name_of_its_own(weights, photos, tmp_path):
    assert run(weights, photos, f"--attention={tmp_path / 'seen'}", "--batch=5") == 0
    drawn = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert drawn == ["0.png", "0_2.png", "1.png", "1_2.png", "2.png", "2_2.png", "3.png"]
    preprocess = open_classifier(weights).preprocess
    for name, source in (("0.png", "a/0.png"), ("0_2.png", "b/0.png"), ("3.png", "a/3.png")):
        with Image.open(photos / source) as image:
            seen = preprocess.pixels(image.convert("RGB"))
        with Image.open(tmp_path / "seen" / name) as picture:
            pixels = np.asarray(picture).astype(int)
        assert (pixels[:, :32] == seen).all()
        assert (pixels[:, 32:] <= seen).all()
        assert (pixels[:, 32:] < seen).mean() > 0.3


def test_unreadable_images_are_listed_at_the_end_and_the_others_answered(
    weights, photos, tmp_path, capsys
):
    (photos / "a" / "0.png").write_bytes(b"no image")
    (photos / "b" / "2.png").write_bytes((photos / "b" / "2.png").read_bytes()[:200])
    missing = tmp_path / "missing.jpg"
    flags = ["--json", f"--features={tmp_path / 'f.npz'}", "--batch=2"]
    assert run(weights, missing, photos, *flags) == 3
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == COUNT - 2
    lines = captured.err.splitlines()
    assert [line.split(": ")[1] for line in lines[1:-1]] == ["unreadable"] * 3
    for name, line in zip(("missing.jpg", "a/0.png", "b/2.png"), lines[1:-1], strict=True):
        assert name in line
    assert lines[-1] == "vit_jax: error: 3 of 8 images cannot be read; see above"
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert len(file["paths"]) == COUNT - 2


def test_in_python_all_are_answered_before_the_error(weights, photos):
    paths = [str(photos / "a" / "0.png"), "missing.jpg", str(photos / "b" / "0.png")]
    answered = predict(open_classifier(weights), paths)
    assert [next(answered).path for _ in range(2)] == [paths[0], paths[2]]
    with pytest.raises(UnreadableError, match=r"^missing\.jpg: cannot be read") as error:
        next(answered)
    assert len(error.value.reasons) == 1


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--json", "--csv"], 2, "one of them at a time"),
        (["--top=0"], 2, "at least 1"),
        (["--batch=0"], 2, "at least 1"),
        (["--features=f.txt"], 2, "must end in .npz"),
        (["--features=weights.npz"], 2, "is there already"),
        (["--features=~/weights.npz"], 2, "is there already"),
        (["--features=weights.npz/f.npz"], 3, "--features=weights.npz/f.npz: cannot be written ("),
        (["--attention=photos"], 2, "is there already"),
        (["--feature=f.npz"], 2, "did you mean '--features'"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(
    flags, code, says, weights, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(weights, "photos", *flags) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"weights.npz", "photos"}


def test_a_model_without_attention_says_so_before_it_works(photos, tmp_path, capsys):
    sizes = {"num_blocks": 1, "hidden_dim": 12, "tokens_mlp_dim": 8, "channels_mlp_dim": 8}
    model = create_model("Mixer-B_32", 5, patches={"size": (8, 8)}, **sizes)
    write_npz(tmp_path / "mixer.npz", random_params(model))
    assert run(tmp_path / "mixer.npz", photos, f"--attention={tmp_path / 'seen'}") == 3
    captured = capsys.readouterr()
    assert "a MlpMixer has no attention" in captured.err
    assert captured.out == ""
    assert not (tmp_path / "seen").exists()


class Terminal(io.StringIO):
    def __init__(self, answers: bool):
        super().__init__()
        self._answers = answers

    def isatty(self) -> bool:
        return self._answers


@pytest.mark.parametrize(
    ("out", "err", "drawn"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_a_bar_is_drawn_on_a_terminal_that_shows_no_answers(out, err, drawn, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    streams = Terminal(out), Terminal(err)
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with command._progress(10) as advance:
        advance(4)
        print("an answer")
    assert streams[0].getvalue() == "an answer\n"
    assert bool(streams[1].getvalue()) == drawn
