"""`vit_jax visualize`, and the report of a run: what they leave, and that they stop nothing."""

import json
import re

import numpy as np

from tests import golden, runs
from tests.data import pictures
from tests.test_predict import write
from vit_jax import visualize
from vit_jax.data.datasets import is_at_hand
from vit_jax.main import main
from vit_jax.pictures import report
from vit_jax.pictures.model import FILES, draw_model
from vit_jax.records.loggers import Console
from vit_jax.train import train


def test_pretrained_weights_are_drawn_with_and_without_images(tmp_path, capsys):
    weights, folder = write(tmp_path / "weights.npz"), tmp_path / "out"
    assert main(["visualize", str(weights), f"--output={folder}"]) == 0
    out = capsys.readouterr().out
    assert "not drawn   Attention: give images" in out
    assert {path.name for path in folder.iterdir()} == {
        "positions.png", "filters.png", "index.html"
    }  # fmt: skip
    pictures.write(tmp_path, {"picture.png": pictures.noise(40, 50)})
    image = str(tmp_path / "picture.png")
    assert main(["visualize", str(weights), image, image, f"--output={folder}"]) == 0
    out = capsys.readouterr().out
    assert "not drawn" not in out
    assert len(re.findall(r"^drawn +\S+/(\w+)\.png$", out, flags=re.MULTILINE)) == 4
    assert (folder / "index.html").read_text().count("data:image/png;base64,") == 4


def test_wrong_images_and_places_are_one_line(tmp_path, capsys):
    weights = write(tmp_path / "weights.npz")
    (tmp_path / "noise.jpg").write_bytes(b"noise")
    home = pictures.write(tmp_path / "site", {"index.html": b"<!doctype html>\n<h1>Home</h1>\n"})
    photos = pictures.write(tmp_path / "photos", {"filters.png": b"of somebody"})
    for arguments, says in (
        ([str(tmp_path / "noise.jpg"), f"--output={tmp_path / 'out'}"], "noise.jpg"),
        ([f"--output={home}"], "has another's index.html; name a new folder"),
        ([f"--output={photos}"], "has another's filters.png; name a new folder"),
        ([f"--output={weights}"], "is a file; name a folder"),
        ([str(photos)], "photos: is a folder; name up to 32 images of it; for many, vit_jax"),
    ):
        assert main(["visualize", str(weights), *arguments]) == 3
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert [path.name for path in home.iterdir()] == ["index.html"]
    assert (photos / "filters.png").read_bytes() == b"of somebody"
    assert len(list(photos.iterdir())) == 1


def test_a_picture_has_no_room_for_hundreds_of_images(tmp_path, capsys):
    weights = write(tmp_path / "weights.npz")
    assert main(["visualize", str(weights), *["a.jpg"] * 33, f"--output={tmp_path / 'out'}"]) == 2
    assert "33 images: a picture has 32 rows at most; for many, vit_jax predict --attention=" in (
        capsys.readouterr().err
    )


def test_an_album_may_write_what_is_listed_and_no_more(tmp_path):
    """`FILES` are what another's folder is searched for before anything is drawn."""
    pictures.write(tmp_path, {"picture.png": pictures.noise(40, 50)})
    weights = str(write(tmp_path / "weights.npz"))
    folder = tmp_path / "out"
    assert main(["visualize", weights, f"{tmp_path}/picture.png", f"--output={folder}"]) == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "index.html"}


def test_a_run_looks_at_its_own_test_images(tmp_path, monkeypatch, capsys):
    """Into the default folder; where its data is gone, attention is left out as of weights."""
    files = {
        f"data/{split}/{name}/{i}.png": pictures.noise(8, 8, seed=i)
        for split in ("train", "test") for name in "ab" for i in range(4)
    }  # fmt: skip
    data = pictures.write(tmp_path, files) / "data"
    short = {"total_steps": 2, "warmup_steps": 1, "batch": 8, "batch_eval": 8}
    run = str(tmp_path / "run")
    train(runs.tiny_config(dataset=str(data), **short), run, Console(quiet=True))
    seen = []
    monkeypatch.setattr(
        visualize, "draw_model", lambda *given: seen.append(given[4]) or draw_model(*given)
    )
    monkeypatch.chdir(tmp_path)
    assert main(["visualize", run]) == 0
    assert "drawn       pictures/attention.png" in capsys.readouterr().out
    assert (tmp_path / "pictures" / "attention.png").exists()
    chosen = [
        files[f"data/test/{name}/{i}.png"] for name, i in ("a0", "a1", "a2", "b0", "b1", "b3")
    ]
    np.testing.assert_array_equal(seen[0], np.stack(chosen))
    data.rename(tmp_path / "gone")
    assert main(["visualize", run]) == 0
    assert "not drawn   Attention: give images" in capsys.readouterr().out
    assert not (tmp_path / "pictures" / "attention.png").exists()


def test_nothing_is_downloaded_to_look_at():
    assert is_at_hand("digits")
    assert not is_at_hand("imagenet2012")
    assert not is_at_hand("/no/such/folder")


def test_a_run_on_numbers_of_wordnet_is_shown_in_words(tmp_path, capsys):
    """Its scores keep the names; the command that is printed can be pasted."""
    names = ("n01440764", "n02892201")
    files = {
        f"data/{split}/{name}/{i}.png": pictures.noise(8, 8, seed=i)
        for split in ("train", "test") for name in names for i in range(4)
    }  # fmt: skip
    pictures.write(tmp_path, files)
    short = {"total_steps": 2, "warmup_steps": 1, "batch": 8, "batch_eval": 8, "report": True}
    place = tmp_path / "my run"
    train(runs.tiny_config(dataset=str(tmp_path / "data"), **short), str(place), Console())
    said = "".join(capsys.readouterr().out.split("\n"))
    assert f"vit_jax predict --checkpoint='{place}' IMAGE" in said
    page = (place / "report" / "index.html").read_text()
    assert "<td>tench</td>" in page
    assert "<td>brass</td>" in page
    scores = json.loads((place / "report" / "scores.json").read_text())
    assert [one["name"] for one in scores["classes"]] == list(names)


def test_a_report_that_fails_is_one_line_and_the_run_is_done(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError("no space\nleft")

    monkeypatch.setattr(report, "write_page", fail)
    result = train(runs.tiny_config(total_steps=3), str(tmp_path), Console(quiet=True))
    assert result.step == 3
    assert "the report could not be written: OSError: no space left" in caplog.text
    scores = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert result.scores is not None
    assert scores["accuracy"] == result.scores["accuracy"]
    assert not (tmp_path / "report" / "mistakes.png").exists()  # config.report is False


def test_deit_looks_at_a_photograph(tmp_path, capsys):
    folder = golden.shared("pretrained", "deit_tiny")
    photograph = str(folder / "coco_000000039769.png")
    assert main(["visualize", str(folder), photograph, f"--output={tmp_path}"]) == 0
    assert "not drawn" not in capsys.readouterr().out
