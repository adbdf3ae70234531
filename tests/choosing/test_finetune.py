"""`vit_jax finetune`: one command from a folder to a model, again, edited, and refused."""

import json
import types

import pytest

from tests.choosing.setting import photographs, small_weights
from tests.data import pictures
from vit_jax.choosing import choose, fitting
from vit_jax.choosing.recipe_file import NAME, is_as_chosen
from vit_jax.choosing.reuse import recipe_in_use
from vit_jax.commands.parser import make_parser
from vit_jax.config import differences
from vit_jax.main import main
from vit_jax.recipes import load_config
from vit_jax.workdir import Workdir

SHORT = ["--config.total_steps=4", "--config.report=False"]
SHORT += ["--config.eval_every=4", "--config.checkpoint_every=4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    photographs(root / "photos")
    small_weights(root / "weights")
    return root


def finetune(place, *flags, run="run"):
    photos, weights = place / "photos", place / "weights"
    return main(["finetune", str(photos), f"--model={weights}", f"--workdir={place / run}", *flags])


@pytest.fixture(scope="module")
def trained(place):
    assert finetune(place, *SHORT) == 0
    return place / "run"


def test_the_recipe_is_what_ran(trained):
    recipe = load_config(trained / NAME)
    here = Workdir(trained)
    assert differences(here.settings(), here.inherited(recipe)) == {}
    assert (recipe.pp.crop, recipe.batch, recipe.optimizer, recipe.base_lr) == (32, 32, "sgd", 0.02)
    assert (recipe.total_steps, recipe.report) == (4, False)  # as the flags said
    assert (trained / "checkpoints/4").is_dir()


def test_the_same_command_again_goes_on_with_the_run(trained, place, capsys):
    before = (trained / NAME).read_text()
    assert finetune(place, *SHORT) == 0
    said = capsys.readouterr().out
    assert "decides, as it lies there" in said
    assert "resuming after step 4" in said
    assert (trained / NAME).read_text() == before
    assert recipe_in_use(Workdir(trained), str(place / "photos"), None, []) is not None  # no flags


@pytest.mark.slow  # a second whole run
def test_the_recipe_gives_the_same_numbers_elsewhere(trained, place):
    again = place / "again"
    assert main(["train", f"--config={trained / NAME}", f"--workdir={again}"]) == 0

    def losses(workdir):
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [line["test_loss"] for line in lines if "test_loss" in line]

    assert losses(again) == losses(trained)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--config.base_lr=0.5"], 2, "base_lr 0.02 -> 0.5"),
        (["--model=vit_b16"], 2, "--model=vit_b16: "),
        (["--minutes=0"], 2, "--minutes=0: must be a positive number"),
        (["--minutes=1e400"], 2, "--minutes=inf: must be a positive number"),
        (["--config.base_rl=0.5"], 2, "did you mean 'base_lr'"),
    ],
)
def test_what_a_run_in_the_workdir_refuses(trained, place, flags, code, words, capsys):
    assert finetune(place, *SHORT, *flags) == code
    assert words in one_line(capsys)


def one_line(capsys):
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    return said[0]


def test_a_recipe_edited_after_the_run_began_names_the_way_on(trained, place, capsys):
    recipe = trained / NAME
    text = recipe.read_text()
    recipe.write_text(text.replace('"base_lr": 0.02', '"base_lr": 0.01'))
    assert finetune(place) == 2
    said = one_line(capsys)
    assert "base_lr 0.02 -> 0.01" in said
    assert f"vit_jax train --config={trained}/{NAME} --workdir={trained}_2" in said
    recipe.write_text(text)


def test_other_images_and_other_runs_are_refused(trained, place, tmp_path, capsys):
    other = photographs(tmp_path / "others", 2, 1)
    assert main(["finetune", str(other), f"--workdir={trained}"]) == 2
    assert f"{NAME} is for {place / 'photos'}" in one_line(capsys)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert finetune(place, run=str(run)) == 2
    assert "a run that finetune did not begin" in one_line(capsys)
    (tmp_path / "file").touch()
    assert finetune(place, run=str(tmp_path / "file")) == 2
    assert "is a file; name a folder" in one_line(capsys)


def program(needed):
    """A step without batch statistics that needs so many bytes, and cannot be run."""
    state = types.SimpleNamespace(batch_stats={})
    return fitting.Program(None, (state, None), needed)


@pytest.fixture
def instant(monkeypatch):
    """Steps that are neither compiled nor run: 2 s each, of 1 MB."""

    def fitted(experiment, free, parts=None):
        return fitting.Fit(parts or 1, program(10**6), free, 1)

    monkeypatch.setattr(fitting, "fitted", fitted)
    monkeypatch.setattr(fitting, "seconds_of", lambda program: 2.0)


def test_a_plan_prints_each_reason_and_trains_nothing(place, instant, capsys):
    assert finetune(place, "--plan", run="plan") == 0
    said = capsys.readouterr().out
    for words in ("to train on: 2 classes of 20", "0.02", "1.0 MB of the", "2 s a step, measured"):
        assert words in said
    for name in ("pp.crop", "batch", "accum_steps", "base_lr", "total_steps", "augment.crop_area"):
        assert sum(line.split()[:1] == [name] for line in said.splitlines()) == 1
    assert f"vit_jax finetune {place / 'photos'} --workdir={place / 'plan'}" in said
    assert sorted(path.name for path in (place / "plan").iterdir()) == [NAME]
    assert is_as_chosen((place / "plan" / NAME).read_text())


def test_a_plan_is_made_anew_until_it_is_edited(place, instant, capsys):
    recipe = place / "anew" / NAME
    assert finetune(place, "--plan", run="anew") == 0
    assert finetune(place, "--plan", "--minutes=2", run="anew") == 0
    assert load_config(recipe).total_steps == 48  # 2 minutes but a fifth, at 2 s
    photos, here = str(place / "photos"), Workdir(place / "anew")
    used = recipe_in_use(here, photos, None, [])  # nothing else is asked: what was planned is run
    assert used is not None
    assert used.total_steps == 48
    assert recipe_in_use(here, photos, None, ["--config.batch=64"]) is None
    recipe.write_text(recipe.read_text().replace('"total_steps": 48', '"total_steps": 47'))
    capsys.readouterr()
    assert finetune(place, "--plan", "--minutes=5", run="anew") == 0
    assert "decides, as it lies there" in capsys.readouterr().out
    assert load_config(recipe).total_steps == 47
    assert finetune(place, "--plan", "--config.batch=64", run="anew") == 2
    assert "was edited, and the flags say otherwise (batch 32 -> 64)" in one_line(capsys)


def test_an_edited_recipe_that_does_not_fit_is_not_begun(place, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "step_of", lambda experiment, parts: program(10**9))
    monkeypatch.setattr(fitting, "seconds_of", lambda program: 2.0)
    assert finetune(place, "--plan", run="tight") == 0
    recipe = place / "tight" / NAME
    recipe.write_text(recipe.read_text().replace('"batch": 32', '"batch": 64'))
    monkeypatch.setattr(choose.memory, "free_bytes", lambda: 10**8)
    capsys.readouterr()
    assert finetune(place, run="tight") == 2
    assert "config.batch=64 in config.accum_steps=1 parts needs 1.0 GB" in one_line(capsys)
    assert not (place / "tight" / "config.json").exists()


def test_flags_are_written_and_what_follows_from_them_follows(place, instant):
    flags = ["--config.batch=64", "--config.epochs=3", "--config.weight_decay=0.1"]
    assert finetune(place, "--plan", *flags, run="flags") == 0
    config = load_config(place / "flags" / NAME)
    assert (config.batch, config.epochs, config.total_steps) == (64, 3.0, None)
    assert (config.weight_decay, config.eval_every, config.warmup_steps) == (0.1, 1, 0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--minutes=0.1"], "--minutes=0.1: 2 steps of 2 s; give at least 0.83 minutes"),
        (["--minutes=5", "--config.epochs=3"], "--minutes=5 and --config.epochs: give one"),
        (["--config.batch=33"], "config.batch=33"),
        (["--config.dataset=digits"], "--config.dataset: is said by FOLDER"),
    ],
)
def test_what_does_not_fit_together_is_one_line(place, instant, flags, words, capsys):
    assert finetune(place, "--plan", *flags, run="refused") == 2
    assert words in one_line(capsys)
    assert not (place / "refused").exists()


def test_unknown_weights_are_one_line(place, capsys):
    photos = str(place / "photos")
    assert main(["finetune", photos, "--model=vit_s17x", f"--workdir={place / 'no'}"]) == 3
    assert "'vit_s17x' are unknown" in one_line(capsys)


def test_folders_that_cannot_be_learned_from_are_one_line(tmp_path, capsys):
    assert main(["finetune", str(tmp_path / "none")]) == 3
    assert "no such image folder" in one_line(capsys)
    pictures.write(tmp_path / "one", {"train/a/1.png": b"", "test/a/1.png": b""})
    assert main(["finetune", str(tmp_path / "one")]) == 3
    assert "one class only" in one_line(capsys)


def test_the_default_weights_are_small_and_published():
    from vit_jax.checkpoints.catalogue import published
    from vit_jax.choosing import sources
    from vit_jax.choosing.rules import Devices

    names = {kind: sources.model_or_default(None, Devices(kind, 1)) for kind in ("cpu", "gpu")}
    found = {kind: published(name) for kind, name in names.items()}
    assert {kind: one.architecture for kind, one in found.items()} == {
        "cpu": "ViT-Ti_16", "gpu": "ViT-S_16",
    }  # fmt: skip
    assert all(one.recommended for one in found.values())


def test_the_time_told_is_that_of_steps_and_tests(place):
    from tests.choosing.setting import CPU, VIT, facts

    known = choose.Known(facts(1000, 300), VIT, CPU, {})
    measured = choose.Measured(1, 10**9, None, 2.0)
    choices = choose.choices_of(known, measured)
    chosen = choose.Chosen(choose._config(choices, []), tuple(choices), known, measured)
    steps, tests = chosen.config.total_steps, 10
    assert chosen.minutes == pytest.approx((steps * 2 + tests * 300 / 3 * 2 / 32) / 60)


def test_help_fits_a_small_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = make_parser()[1]["finetune"].format_help().splitlines()
    assert len(lines) <= 23
    assert "example: vit_jax finetune" in lines[-1]
