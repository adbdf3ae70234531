"""Runs compared: what is one group, its mean and spread, the table and the picture."""

import io
import json
import statistics

import numpy as np
import pytest
from PIL import Image

from tests import runs
from vit_jax import tables
from vit_jax.config import to_json
from vit_jax.errors import CheckpointError
from vit_jax.main import main
from vit_jax.pictures import comparing
from vit_jax.records import comparison
from vit_jax.records.comparison import Group, compare, mean_and_spread
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
            "test_weighted_f1": a + 0.01,
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
    assert (first.name, first.settings) == ("a0, a1, a2", {"base_lr": 0.001})
    assert (second.name, second.settings) == ("b", {"base_lr": 0.5})
    assert first.last("test_accuracy") == [0.70, 0.80, 0.75]
    assert second.curve("test_accuracy") == [(10, 0.5, None), (20, 0.9, None)]
    (step, mean, spread), *_ = first.curve("test_accuracy")
    assert (step, mean) == (10, pytest.approx(0.3))
    assert spread == pytest.approx(np.std([0.2, 0.3, 0.4], ddof=1))


def test_a_curve_has_the_steps_that_all_runs_reached(tmp_path):
    (group,) = compare([write(tmp_path / "a", [0.1, 0.2]), write(tmp_path / "b", [0.3], seed=1)])
    assert [step for step, *_ in group.curve("test_accuracy")] == [10]
    assert group.name == "a, b"
    assert not group.few_settings


def test_the_deviation_is_that_of_a_sample():
    assert mean_and_spread([1.0]) == (1.0, None)
    assert mean_and_spread([1.0, 2.0, 6.0]) == (3.0, statistics.stdev([1.0, 2.0, 6.0]))


def test_the_command_prints_a_table_and_draws(workdirs, tmp_path, capsys):
    picture = tmp_path / "compared.png"
    assert main(["report", *workdirs, f"--output={picture}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rules = [number for number, line in enumerate(lines) if line and set("".join(line)) == {"─"}]
    assert lines[rules[1] + 1 : rules[1] + 3] == [
        ["1", "a0,", "a1,", "a2", "3", "20", "75.00", "75.00", "76.00", "0.2500", "10.00"],
        ["base_lr=0.001", *"± 5.00 ± 5.00 ± 5.00 ± 0.0500 ± 0.00".split()],
    ]
    assert rules[2] == rules[1] + 3  # a rule between two groups
    assert lines[rules[2] + 1] == "2 b 1 20 90.00 90.00 91.00 0.1000 10.00".split()
    assert lines[rules[2] + 2] == ["base_lr=0.5"]
    assert not any("all settings" in " ".join(line) for line in lines)
    with Image.open(picture) as drawn:
        assert drawn.size == (1320, 924)


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
    assert lines[row - 1] == ["base_lr=0.5"]
    assert lines[row - 2][:4] == ["1", "gated", "1", "20"]
    assert "model.transformer.mlp=None" in [line[0] for line in lines if line]


def test_steps_are_those_of_the_scores(tmp_path, capsys):
    given = write(tmp_path / "run", [0.1, 0.2])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 29, "loss": 0.1}\n')
    assert main(["report", given, f"--output={tmp_path / 'c.png'}"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "20.00" in line)
    assert row.split()[:5] == ["1", "run", "1", "20", "20.00"]


MANY = {
    "base_lr": 0.5,
    "weight_decay": 0.1,
    "label_smoothing": 0.2,
    "ema_decay": 0.5,
    "decay_type": "linear",
    "warmup_steps": 4,
    "grad_norm_clip": 0.5,
}


def test_of_many_settings_a_few_stand_beside_the_group_and_all_below(tmp_path, capsys):
    """First the one with most values; the next ones tell apart those that are left."""
    given = [
        write(tmp_path / "plain", [0.1]),
        write(tmp_path / "changed", [0.2], **MANY),
        write(tmp_path / "more", [0.3], **{**MANY, "warmup_steps": 3}),
        write(tmp_path / "last", [0.4], **{**MANY, "warmup_steps": 3, "weight_decay": 0.0}),
    ]
    groups = compare(given)
    assert [len(group.settings) for group in groups] == [7, 7, 7, 7]
    assert groups[2].few_settings[:2] == ["warmup_steps=3", "weight_decay=0.1"]
    assert groups[2].few_settings[6:] == ["and 1 more"]
    assert main(["report", *given, f"--output={tmp_path / 'c.png'}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all(any(line[:1] == [key] for line in lines) for key in MANY)
    assert ["decay_type", *"cosine in #1; linear in #2, #3, #4".split()] in lines


def test_workdirs_are_named_by_what_tells_them_apart(tmp_path):
    given = [
        write(tmp_path / "a" / "seed0", [0.1]),
        write(tmp_path / "a" / "seed1", [0.1], seed=1),
        write(tmp_path / "b" / "seed0", [0.1], base_lr=0.5),
        *(write(tmp_path / "c" / f"seed{s}", [0.1], base_lr=0.25, seed=s) for s in range(6)),
    ]
    assert [group.name for group in compare(given)] == [
        "a/seed0, a/seed1",
        "b/seed0",
        "c/seed0, c/seed1, c/seed2, c/seed3 and 2 more",
    ]


def test_labels_of_groups_are_distinct_and_whole(tmp_path):
    """Also where names and values are long, and differ in their middle alone."""
    long = 90 * "x"
    names = (f"{long}_{middle}_{long}" for middle in ("a", "b"))
    labels = comparing.group_labels(
        [Group({"dataset": "/data/" + long, "base_lr": 1}, ((), ()), (name,)) for name in names]
    )
    assert len({label[label.index(" ") :] for label in labels}) == 2  # without their numbers
    for label, middle in zip(labels, "ab", strict=True):
        joined = label.replace("\n", "").replace(" ", "")
        assert f"{long}_{middle}_{long}(2runs):dataset=/data/xxx" in joined
        assert joined.endswith(",base_lr=1")
        assert max(map(len, label.splitlines())) <= comparing._WIDTH


def test_a_default_that_is_spelt_out_parts_no_group(tmp_path):
    """As runs of an older version hold it, or recipes that give what is the default."""
    pairs = {
        "adam": ({}, {"beta2": 0.999}),
        "lion": ({"optimizer": "lion"}, {"optimizer": "lion", "beta2": 0.99}),
        "layers": ({"ema_decay": 0.5}, {"ema_decay": 0.5, "layer_decay": 1.0}),
        "preset": (
            {"augment": {"preset": "light1", "mixup": 0.0}},
            {"augment": {"randaugment": (2, 10), "mixup": 0.2}},
        ),
    }
    given = [
        write(tmp_path / f"{name}{number}", [0.1], **changes)
        for name, both in pairs.items()
        for number, changes in enumerate(both)
    ]
    given.append(write(tmp_path / "other", [0.1], beta2=0.99))
    assert [group.name for group in compare(given)] == [
        "adam0, adam1", "lion0, lion1", "layers0, layers1", "preset0, preset1", "other"
    ]  # fmt: skip


def test_a_table_without_room_narrows_its_names_alone(tmp_path):
    write(tmp_path / ("run" + 60 * "x"), [0.9999])
    write(tmp_path / "b", [1.0], seed=1)
    groups = compare([str(folder) for folder in tmp_path.iterdir()])
    shown = io.StringIO()
    printed = tables.console()
    printed.file = shown
    printed.print(comparison.comparison_table(groups))
    assert "calibration" in shown.getvalue()
    assert "…" not in shown.getvalue()
    assert max(map(len, shown.getvalue().splitlines())) <= tables.WIDTH


def test_the_training_loss_has_its_spread_though_runs_log_at_other_steps():
    every = tuple({"step": step, "loss": float(step)} for step in range(1, 8))
    odd = tuple({"step": step, "loss": step + 2.0} for step in range(3, 12, 2))
    points = comparing.smoothed(Group({}, (every, odd), ("a", "b")), "loss")
    assert [step for step, *_ in points] == [3, 4, 5, 6, 7]  # which both have reached
    for step, mean, spread in points:
        assert mean == pytest.approx(step + 1)
        assert spread == pytest.approx(statistics.stdev([0, 2]))
    apart = tuple({"step": step, "loss": 1.0} for step in (20, 30))
    assert comparing.smoothed(Group({}, (every, apart), ("a", "b")), "loss") == []
    assert comparing.smoothed(Group({}, (every, ()), ("a", "b")), "loss") == []


def test_every_panel_is_shaded(workdirs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(comparing, "save", lambda figure, _: drawn.append(figure))
    comparing.draw_comparison(compare(workdirs), tmp_path / "c.png")
    assert [len(axes.collections) for axes in drawn[0].axes] == [1, 1, 1, 1]
    assert "standard deviation" in drawn[0].get_suptitle()


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
    assert row.split() == ["1", "run", "1", "10", "25.00", "50.00", "25.00", "50.00"]
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
