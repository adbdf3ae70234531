"""The table of evidence in configs/README.md: what is in it comes from logs that are there."""

import importlib
import json
import sys

import pytest

from tests.golden import REPOSITORY
from vit_jax.config import to_json
from vit_jax.recipes import load_config

sys.path.append(str(REPOSITORY / "benchmarks"))  # where its own imports lie
record = importlib.import_module("record")

MACHINE = {"cores": 2, "cpu": "Some", "system": "Linux", "python": "3.11", "jax": "1",
           "jaxlib": "1", "flax": "1", "optax": "1", "numpy": "1"}  # fmt: skip


RULE = "--config.augment.crop_rule="


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
        "classes": 10,
        "machine": MACHINE,
    }
    (folder / "run.json").write_text(json.dumps(run | changes))
    lines = [
        {"step": 10, "loss": 1.0, "timing": {"images_per_second": 10.0}},
        {"step": 10, "test_accuracy": 0.1, "test_loss": 2.0},
        {"step": 40, "loss": 1.0, "timing": {"images_per_second": 1.0}},
        {"step": 40, "test_accuracy": accuracy, "test_top5_accuracy": 0.95, "test_loss": 1.0},
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
    assert "| 2 cores of Some |" in second


def test_top5_is_told_of_a_hundred_classes_and_more(tmp_path):
    _write(tmp_path, "few", 0.5, classes=99)
    _write(tmp_path, "many", 0.5, classes=100)
    few, many = [line for line in record.table(tmp_path).splitlines() if line.startswith("| `")]
    assert "| 50.00 %, loss 1.000 |" in few
    assert "| 50.00 %, top-5 95.00 %, loss 1.000 |" in many


def test_hours_are_those_of_the_steps():
    log = [
        {"step": 10, "timing": {"images_per_second": 10.0}},
        {"step": 10, "test_accuracy": 0.1},
        {"step": 40, "timing": {"images_per_second": 1.0}},
        {"step": 41, "timing": {"images_per_second": 0.0}},  # too short to say
    ]
    assert record.hours(log, {"batch": 10}) == pytest.approx((10 + 300) / 3600)


def test_a_record_keeps_the_settings_and_no_folder_of_the_machine(tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "3" / "metadata").mkdir(parents=True)
    (workdir / "checkpoints" / "3" / "metadata" / "metadata").write_text(
        '{"train_examples": 9, "class_names": ["ant", "bee"]}'
    )
    (workdir / "metrics.jsonl").write_text('{"step": 3, "test_accuracy": 0.5, "test_loss": 1.0}\n')
    flags = ["--config.base_lr=0.5", "--config.tfds_data_dir=/home/somebody/tfds"]
    config = load_config("folder:/home/somebody/photos", flags)
    (workdir / "config.json").write_text(to_json(config))
    monkeypatch.setattr(record, "RUNS", tmp_path / "recipes")
    monkeypatch.setattr(record, "TABLE", tmp_path / "README.md")

    def keep(command):
        words = ["record.py", str(workdir), "kept", "--data=photos", f"--command={command}"]
        monkeypatch.setattr(sys, "argv", words)
        record.main()

    with pytest.raises(SystemExit):
        keep("vit_jax train --config=folder:PHOTOS")
    assert not (tmp_path / "recipes").exists()
    with pytest.raises(SystemExit):
        keep("vit_jax train --config=folder:photos --config.base_lr=0.5")
    assert not (tmp_path / "recipes").exists()
    keep("vit_jax train --config=folder:PHOTOS --config.base_lr=0.5")
    kept = (tmp_path / "recipes" / "kept" / "config.json").read_text()
    assert "somebody" not in kept
    assert json.loads(kept)["dataset"] == "photos"
    assert json.loads(kept)["base_lr"] == 0.5
    assert record.read(tmp_path / "recipes" / "kept")["classes"] == 2


@pytest.mark.parametrize(
    ("flags", "changes", "found"),
    [
        ("", {}, {"augment.crop_rule"}),
        (f"{RULE}torchvision", {"seed": 3, "report": False, "dataset": "photos"}, set()),
        (f"{RULE}torchvision", {"batch": 8}, {"batch"}),
        (f"{RULE}torchvision --config.batch=8", {"batch": 8, "model": {"pool": "map"}}, set()),
    ],
)
def test_a_command_is_told_from_that_of_another_run(flags, changes, found):
    """The run is older than `augment.crop_rule`, which has another value in its recipe today."""
    config = load_config("finetune:weights.npz,PHOTOS").to_dict()
    del config["augment"]["crop_rule"]
    command = f"vit_jax train --config=finetune:weights.npz,PHOTOS {flags}"
    assert record.unlike(command, {**config, **changes}).keys() == found


def _mcvit(flags="", **changes):
    config = load_config("compact_cifar:mcvit,CIFAR10").to_dict()
    changed = {**config, **changes, "dataset": "cifar"}
    return record.unlike(f"vit_jax train --config=compact_cifar:mcvit,CIFAR10 {flags}", changed)


def _rate(value):
    return f"--config.model.transformer.drop_path_rate={value}"


def test_none_and_what_it_stands_for_are_the_same():
    assert _mcvit(beta2=0.999) == {}
    assert _mcvit(beta2=0.99) == {"beta2": (0.99, None)}
    assert _mcvit("--config.optimizer=lion", optimizer="lion", beta2=0.99) == {}
    assert _mcvit("--config.optimizer=lion", optimizer="lion", beta2=0.999).keys() == {"beta2"}
    assert _mcvit(_rate(0)) == {}
    assert _mcvit(_rate(0.1)) == {"model.transformer.drop_path_rate": (None, 0.1)}


def test_none_stands_for_what_the_named_model_has():
    name = "cvt_7_4_32"  # which leaves out branches unless told otherwise
    flags, model = f"--config.model.model_name={name}", {"model_name": name}
    assert _mcvit(f"{flags} {_rate(0.1)}", model=model) == {}
    assert _mcvit(f"{flags} {_rate(0)}", model=model).keys() == {"model.transformer.drop_path_rate"}


def test_none_stands_for_nothing_known_where_weights_say_it():
    """The run began from weights, whose activation its settings do not hold."""
    config = load_config("finetune:weights.npz,PHOTOS").to_dict()
    command = "vit_jax train --config=finetune:weights.npz,PHOTOS"
    flag = "--config.model.transformer.activation=gelu_tanh"
    assert record.unlike(f"{command} {flag}", config).keys() == {"model.transformer.activation"}


@pytest.mark.parametrize(
    ("word", "dataset", "found"),
    [
        ("CIFAR10", "/data/cifar10", None),
        ("cifar10", "cifar10", None),
        ("imagenet_resized/64x64", "imagenet_resized/64x64", None),
        ("cifar10", "/data/cifar10", "cifar10"),  # a folder that only has the name of a dataset
        ("cats", "cats", "cats"),
        ("photos/cats", "photos/cats", "photos/cats"),
    ],
)
def test_a_word_for_a_folder_is_in_capitals(word, dataset, found):
    command = f"vit_jax train --config=compact_cifar:mcvit,{word}"
    assert record.private(command, {"dataset": dataset}) == found


# Runs on a machine that is gone, recorded before records kept the settings.
WITHOUT_SETTINGS = {"compact_cifar_mcvit_cifar10_unmixed", "lit_cifar10_classes"}


def test_every_record_has_the_settings_of_its_run_but_those_named():
    folders = [*record.RUNS.iterdir()]
    assert {f.name for f in folders if not (f / "config.json").exists()} == WITHOUT_SETTINGS


RECORDS = sorted(file.parent.name for file in record.RUNS.glob("*/config.json"))


@pytest.mark.parametrize("name", RECORDS)
def test_every_command_gives_the_settings_that_its_run_had(name):
    config = json.loads((record.RUNS / name / "config.json").read_text())
    assert record.unlike(record.read(record.RUNS / name)["command"], config) == {}


def test_every_recorded_command_can_be_followed():
    for folder in record.RUNS.iterdir():
        file = folder / "config.json"
        config = json.loads(file.read_text()) if file.exists() else {"dataset": ""}
        assert record.private(record.read(folder)["command"], config) is None, folder.name


def test_every_recorded_run_names_a_shipped_recipe():
    for folder in record.RUNS.iterdir():
        recipe = record.read(folder)["command"].split("--config=")[1].split()[0].split(":")[0]
        assert (REPOSITORY / "configs" / f"{recipe}.py").is_file(), folder.name
