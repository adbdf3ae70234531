"""Runs compared: what is one group, its mean and spread, the table and the picture."""

import dataclasses
import json
import statistics

import numpy as np
import pytest
from PIL import Image

from tests import runs
from vit_jax.config import to_json
from vit_jax.errors import CheckpointError
from vit_jax.main import main
from vit_jax.pictures import comparing
from vit_jax.records.comparison import compare, mean_and_spread
from vit_jax.records.metrics_file import scores_of


def write(folder, accuracies, **changes):
    """Writes what a run leaves of its settings and metrics; an evaluation every ten steps."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(runs.tiny_config(**changes)))
    lines = [{"step": step, "loss": 2 / step} for step in range(1, 10 * len(accuracies) + 1)]
    lines += [
        {
            "step": 10 * i,
            "test_accuracy": a,
            "test_loss": 1 - a,
            "test_macro_f1": a,
            "test_ece": 0.1,
        }
        for i, a in enumerate(accuracies, 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return str(folder)


@pytest.fixture
def workdirs(tmp_path):
    """Three seeds of one setting, on other threads too, and one run of another."""
    return [
        write(tmp_path / "a0", [0.2, 0.70], seed=0),
        write(tmp_path / "b", [0.5, 0.90], base_lr=0.5),
        write(tmp_path / "a1", [0.3, 0.80], seed=1, decode_threads=1),
        write(tmp_path / "a2", [0.4, 0.75], seed=2, batch_eval=7),
    ]


def test_seeds_of_one_setting_are_a_group(workdirs):
    first, second = compare(workdirs)
    assert first.name == "base_lr=0.001"
    assert second.name == "base_lr=0.5"
    assert first.workdirs == (workdirs[0], workdirs[2], workdirs[3])
    assert first.last("test_accuracy") == [0.70, 0.80, 0.75]
    assert second.curve("test_accuracy") == [(10, 0.5, None), (20, 0.9, None)]
    (step, mean, spread), *_ = first.curve("test_accuracy")
    assert (step, mean) == (10, pytest.approx(0.3))
    assert spread == pytest.approx(np.std([0.2, 0.3, 0.4], ddof=1))


def test_a_curve_has_the_steps_that_all_runs_reached(tmp_path):
    (group,) = compare([write(tmp_path / "a", [0.1, 0.2]), write(tmp_path / "b", [0.3], seed=1)])
    assert [step for step, *_ in group.curve("test_accuracy")] == [10]
    assert group.name == str(tmp_path / "a")


def test_the_deviation_is_that_of_a_sample():
    assert mean_and_spread([1.0]) == (1.0, None)
    assert mean_and_spread([1.0, 2.0, 6.0]) == (3.0, statistics.stdev([1.0, 2.0, 6.0]))


def test_the_command_prints_a_table_and_draws(workdirs, tmp_path, capsys):
    picture = tmp_path / "compared.png"
    assert main(["report", *workdirs, f"--output={picture}"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "base_lr=0.001" in line]
    assert line.split()[:7] == ["base_lr=0.001", "3", "20", "75.00", "±", "5.00", "75.00"]
    (line,) = [line for line in out.splitlines() if "base_lr=0.5" in line]
    assert line.split()[:5] == ["base_lr=0.5", "1", "20", "90.00", "90.00"]
    with Image.open(picture) as drawn:
        assert drawn.size == (1320, 935)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda given, _: [given[0], given[0] + "/."], "given twice"),
        (lambda given, tmp: [given[0], str(tmp)], "not the workdir of a run"),
        (lambda given, tmp: [write(tmp / "new", [])], "not evaluated yet"),
    ],
)
def test_what_cannot_be_compared_is_one_line(change, says, workdirs, tmp_path):
    with pytest.raises(CheckpointError, match=says):
        compare(change(workdirs, tmp_path))


def test_each_setting_of_a_group_has_a_line_of_its_own(tmp_path, capsys):
    model = {"transformer": {"mlp": "gated"}}
    given = [
        write(tmp_path / "gated", [0.1, 0.2], model=model, base_lr=0.5),
        *(write(tmp_path / f"plain{seed}", [0.3], seed=seed) for seed in range(2)),
    ]
    assert main(["report", *given, f"--output={tmp_path / 'c.png'}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    row = lines.index(["model.transformer.mlp=gated"])
    assert lines[row - 1][:3] == ["base_lr=0.5", "1", "20"]
    assert "model.transformer.mlp=None" in [line[0] for line in lines if line]


def test_steps_are_those_of_the_scores(tmp_path, capsys):
    given = write(tmp_path / "run", [0.1, 0.2])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 29, "loss": 0.1}\n')
    assert main(["report", given, f"--output={tmp_path / 'c.png'}"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "20.00" in line)
    assert row.split()[-5:-3] == ["20", "20.00"]


def test_a_legend_cuts_names_and_never_the_number_of_runs(tmp_path):
    (group,) = compare([write(tmp_path / "a", [0.1]), write(tmp_path / "b", [0.2], seed=1)])
    long = dataclasses.replace(group, settings=("dataset=" + 200 * "x", "base_lr=1"))
    (line,) = comparing._legend([long])
    assert line.get_label().startswith("dataset=xxx")
    assert line.get_label().endswith("x…  (2 runs: mean ± standard deviation)")


def test_a_run_with_a_single_record_shows_its_training_loss(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    write(folder, [])
    line = {"step": 5, "loss": 2.0, "test_accuracy": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    drawn = []
    monkeypatch.setattr(comparing, "save", lambda figure, _: drawn.append(figure))
    comparing.draw_comparison(compare([str(folder)]), tmp_path / "c.png")
    (curve,) = drawn[0].axes[3].lines
    assert curve.get_marker() == "o"


def test_runs_of_retrieval_are_compared_by_recall(tmp_path, capsys, monkeypatch):
    write(tmp_path / "run", [])
    recalls = {f"test_{way}_recall_{k}": share for k, share in ((1, 0.25), (5, 0.5), (10, 0.75))
               for way in ("image_to_text", "text_to_image")}  # fmt: skip
    lines = [{"step": 10, "loss": 2.0}, {"step": 10, **recalls}]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    drawn = []
    monkeypatch.setattr(comparing, "save", lambda figure, _: drawn.append(figure))
    assert main(["report", str(tmp_path / "run"), f"--output={tmp_path / 'c.png'}"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "25.00" in line)
    assert row.split()[1:] == ["1", "10", "25.00", "50.00", "25.00", "50.00"]
    assert "accuracy" not in out
    assert all(axes.lines for axes in drawn[0].axes)
    assert scores_of(tmp_path / "run" / "metrics.jsonl", 10) == recalls


def test_the_picture_may_lie_in_the_home_folder(workdirs, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["report", workdirs[1], "--output=~/drawn/c.png"]) == 0
    assert (tmp_path / "drawn" / "c.png").is_file()
    assert not list((tmp_path / "here").iterdir())


def test_the_picture_is_a_png(workdirs, capsys):
    assert main(["report", *workdirs, "--output=x.jpg"]) == 2
    assert "--output=x.jpg: must end in .png" in capsys.readouterr().err
