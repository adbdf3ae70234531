"""`vit_jax visualize`, and the report of a run: what they leave, and that they stop nothing."""

import json
import re

from tests import golden, runs
from tests.data import pictures
from tests.test_predict import write
from vit_jax.main import main
from vit_jax.pictures import report
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
    for arguments, says in (
        ([str(tmp_path / "noise.jpg"), f"--output={tmp_path / 'out'}"], "noise.jpg"),
        ([f"--output={home}"], "has an index.html of another; name a new folder"),
        ([f"--output={weights}"], "is a file; name a folder"),
    ):
        assert main(["visualize", str(weights), *arguments]) == 3
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert [path.name for path in home.iterdir()] == ["index.html"]


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
