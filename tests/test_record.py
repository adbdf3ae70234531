"""The table of evidence in configs/README.md: what is in it comes from logs that are there."""

import importlib
import json
import sys

import pytest

from tests.golden import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
record = importlib.import_module("record")

MACHINE = {"cores": 2, "cpu": "Some", "system": "Linux", "python": "3.11", "jax": "1",
           "jaxlib": "1", "flax": "1", "optax": "1", "numpy": "1"}  # fmt: skip


def _write(runs, name, accuracy, **changes):
    folder = runs / name
    folder.mkdir(parents=True)
    run = {
        "command": "vit_jax train --config=digits --config.batch=10",
        "data": "digits",
        "reported": "",
        "note": "",
        "seed": 0,
        "batch": 10,
        "train_examples": 100,
        "machine": MACHINE,
    }
    (folder / "run.json").write_text(json.dumps(run | changes))
    lines = [
        {"step": 10, "loss": 1.0, "timing": {"images_per_second": 10.0}},
        {"step": 10, "test_accuracy": 0.1, "test_loss": 2.0},
        {"step": 40, "loss": 1.0, "timing": {"images_per_second": 1.0}},
        {"step": 40, "test_accuracy": accuracy, "test_loss": 1.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_the_table_in_the_repository_is_current():
    assert record.TABLE.read_text() == record.table(record.RUNS), (
        "run `python benchmarks/record.py --table`"
    )


def test_seeds_of_one_experiment_are_one_row_with_their_spread(tmp_path):
    _write(tmp_path, "a_seed0", 0.5)
    _write(tmp_path, "a_seed1", 0.7, seed=1)
    _write(tmp_path, "b", 0.9, note="shortened", reported="95 %")
    rows = [line for line in record.table(tmp_path).splitlines() if line.startswith("| `")]
    first, second = rows
    assert "60.00 ± 14.14 %, loss 1.000" in first  # of 0.5 and 0.7
    assert "[0](" in first
    assert "[1](" in first
    assert "`digits`, shortened" in second
    assert "90.00 %, loss 1.000 | 95 % | 4 |" in second  # 40 steps of 10 of 100 images


def test_hours_are_those_of_the_steps():
    log = [
        {"step": 10, "timing": {"images_per_second": 10.0}},
        {"step": 10, "test_accuracy": 0.1},
        {"step": 40, "timing": {"images_per_second": 1.0}},
        {"step": 41, "timing": {"images_per_second": 0.0}},  # too short to say
    ]
    assert record.hours(log, {"batch": 10}) == pytest.approx((10 + 300) / 3600)


def test_every_recorded_run_names_a_shipped_recipe():
    for folder in record.RUNS.iterdir():
        recipe = record.read(folder)["command"].split("--config=")[1].split()[0].split(":")[0]
        assert (REPOSITORY / "configs" / f"{recipe}.py").is_file(), folder.name
