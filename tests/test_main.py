"""The command line: what a person types, rightly and wrongly, and what comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import runs
from tests.golden import REPOSITORY
from vit_jax.config import flatten
from vit_jax.main import main

TINY = [
    f"--config.{key}={value if not isinstance(value, bool) else str(value).lower()}"
    for key, value in flatten(runs.TINY).items()
]


def _train(workdir, *flags):
    return main(["train", "--config=digits", f"--workdir={workdir}", *TINY, *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with a finished run of 30 steps."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert _train(workdir, "--config.report=true") == 0
    return workdir


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    return path


def test_a_run_leaves_what_it_should(trained):
    assert json.loads((trained / "config.json").read_text())["total_steps"] == 30
    lines = runs.metrics_of(trained)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 31))
    assert [line["step"] for line in lines if "test_loss" in line] == [10, 20, 30]
    assert lines[0].keys() == {"step", "loss", "accuracy", "grad_norm", "learning_rate"}
    assert sorted(
        path.name for path in (trained / "checkpoints").iterdir() if path.name[0] != "."
    ) == ["25", "30"]
    with Image.open(trained / "report" / "curves.png") as curves:
        assert curves.size == (1540, 825)
    page = (trained / "report" / "index.html").read_text()
    assert "Worst mistakes" in page
    assert "Attention" in page
    assert "Not drawn" not in page
    assert json.loads((trained / "report" / "scores.json").read_text())["images"] == 355
    assert not list(trained.glob("*.part"))


def test_evaluate_prints_the_same_score_from_the_checkpoint_alone(trained, tmp_path, capsys):
    assert _train(trained) == 0  # a finished run: scored again, not trained
    told = [line for line in capsys.readouterr().out.splitlines() if "test accuracy" in line]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (trained / "checkpoints").rename(moved / "checkpoints")
    try:
        assert main(["evaluate", f"--workdir={moved}"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == told[-1]
        real = tmp_path / "real.json"
        real.write_text(json.dumps([[0, 1, 2, 3, 4]] * 100 + [[]] * 255))
        assert main(["evaluate", f"--workdir={moved}", "--json", f"--real={real}"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert f"test accuracy {100 * found['accuracy']:.2f} %" in told[-1]
        assert sum(one["images"] for one in found["classes"]) == found["images"] == 355
        assert found["real_images"] == 100
    finally:
        (moved / "checkpoints").rename(trained / "checkpoints")


def test_predict_names_classes_with_probabilities(trained, picture, capsys):
    command = ["predict", f"--checkpoint={trained}", "--top=10"]
    assert main([*command, str(picture), str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:11] == lines[11:]
    assert lines[0] == str(picture)
    shares = [float(line.split("%")[0]) for line in lines[1:11]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.06)
    assert {line.split()[-1] for line in lines[1:11]} == set("0123456789")


def test_predict_as_json_reads_back(trained, picture, capsys):
    assert main(["predict", f"--checkpoint={trained}/checkpoints/30", "--json", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(picture)
    assert len(found["top"]) == 5


def test_predict_agrees_with_evaluate_on_a_test_digit(trained, tmp_path):
    """The host path of `predict` and the device path of `evaluate` see the same image."""
    import jax

    from vit_jax import load_run
    from vit_jax.data.digits import open_digits
    from vit_jax.predict import predict

    run, digits = load_run(trained), open_digits("test")
    path = tmp_path / "digit.png"
    Image.fromarray(digits.images[7]).save(path)
    images = run.preprocess.normalize(
        run.preprocess.on_device(jax.numpy.asarray(digits.images[7:8]))
    )
    expected = np.sort(jax.nn.softmax(run.model.apply(run.variables, images)[0]))[::-1]
    found = next(predict(run, [str(path)], top=10))
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4)


def test_inspect_says_where_a_run_stands(trained, capsys):
    assert main(["inspect", f"{trained}/checkpoints/25", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["num_classes"]) == ("run", 10)
    assert (found["run"]["step"], found["run"]["dataset"]) == (25, "digits")
    assert found["run"]["scores"] == {}  # those of steps 20 and 30 are of other weights
    assert sum(layer["count"] for layer in found["layers"].values()) == found["parameters"]
    assert main(["inspect", str(trained), "--json"]) == 0
    scored = next(line for line in reversed(runs.metrics_of(trained)) if "test_loss" in line)
    scores = json.loads(capsys.readouterr().out)["run"]["scores"]
    assert scores == {k: v for k, v in scored.items() if k != "step"}
    assert main(["inspect", str(trained)]) == 0
    assert "step 30 on digits, seed 0, test_" in capsys.readouterr().out


def test_config_json_repeats_the_run(trained, tmp_path):
    config = trained / "config.json"
    assert main([f"--config={config}", f"--workdir={tmp_path}/again"]) == 0  # no command: train
    assert runs.metrics_of(tmp_path / "again") == runs.metrics_of(trained)
    assert (tmp_path / "again" / "config.json").read_text() == config.read_text()


def _folder(root: Path, classes="ab", count=3, splits=("train", "test")) -> Path:
    generator = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                size = (10 + i, 12, 3)
                pixels = generator.integers(0, 256, size, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def _error(capsys, arguments, code):
    """Runs a command that must fail, and returns its one line."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    assert captured.err.startswith("vit_jax: error: ")
    return captured.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--config.base_rl=1"], "did you mean 'base_lr'?"),
        (["--config.batch=many"], "--config.batch=many: must be a whole number, such as 8"),
        (["--config.base_lr=fast"], "--config.base_lr=fast: must be a number, such as 0.1"),
        (["--config.pp.mean=grey"], "config.pp.mean=('grey',) must be three numbers"),
        (["--config.augment.flip=perhaps"], "--config.augment.flip=perhaps: must be true or fals"),
        (["--config.model=ViT-B_16"], "group of settings; give one of it, such as model.model_n"),
        (["--batch=64"], "--batch=64: no such flag of train; did you mean '--config.batch=64'?"),
        (["--batch-size=64"], "did you mean '--config.batch=64'?"),
        (["--lr=0.1"], "did you mean '--config.base_lr=0.1'?"),
        (["--weight-decay", "0.1"], "did you mean '--config.weight_decay'?"),
        (["--img-size=384"], "did you mean '--config.pp.crop=384'?"),
        (["--crop=64"], "did you mean '--config.pp.crop=64'?"),
        (["--seed=3"], "did you mean '--config.seed=3'?"),
        (["--wrkdir=x"], "did you mean '--workdir'?"),
        (["--nothing=3"], "--nothing=3: no such flag of train\n"),
        (["--config.batch=12"], "must be divisible by the 8 devices"),
        (["--config.model.transformer.attention.kernel=cudnn"], "it needs an NVIDIA GPU"),
        (["--config.batch=64", "--config.accum_steps=5"], "divisible by config.accum_steps=5"),
        (["--config.batch=64", "--config.accum_steps=16"], "parts of 4"),
        (["--config.mesh.fsdp=3"], "the number of devices, 8"),
        (["--config.dataset=digit"], "did you mean 'digits'?"),
        (["--config.model.model_name=vit_b17"], "did you mean"),
        (["--config.model.hidden_size=15"], "must divide"),
        (["--config.model.classifier=tokn"], "did you mean 'token'?"),
        (["--config.model.classifier=unpooled"], "'token' or 'gap'"),
        (["--config.pp.crop=2"], "patch"),
        (["--config.optimizer=adamm"], "did you mean 'adamw'?"),
        (["--config.warmup_steps=30"], "must be below the 30 steps"),
        (["--config.total_steps=None"], "exactly one of the two must be given"),
        (["--config.batch", "64"], "--config.batch 64: write --config.batch=64"),
        (["--confg.base_lr=1"], "no such flag of train"),
        (["--config.pp.resize=7"], "must be at least config.pp.crop=8"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(flags, says, tmp_path, capsys):
    line = _error(
        capsys, ["train", "--config=digits", f"--workdir={tmp_path}/run", *TINY, *flags], 2
    )
    assert says in line
    assert not (tmp_path / "run").exists(), "a run that cannot start leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "--workdir=x"], "--config"),
        (["train", "--config=digts", "--workdir=x"], "did you mean 'digits'?"),
        (["train", "--config=missing/recipe.py", "--workdir=x"], "no such file"),
        (["predict", "--checkpoint=x"], "IMAGE"),
        (["predict", "--chekpoint=x", "a.png"], "--checkpoint"),
        (["evaluate", "--workdir=x", "--fast"], "no such flag of evaluate"),
    ],
)
def test_wrong_commands_are_one_line_and_exit_2(arguments, says, capsys):
    assert says in _error(capsys, arguments, 2)


def test_recipe_that_fails_or_sets_unknown_keys(tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    for body, says in (
        ("return 1 / 0", "ZeroDivisionError"),
        ("return {'learning_rate': 1}", "no such setting"),
        ("return {'batch': 'big'}", "must be of type int"),
        ("return 3", "must return a ConfigDict or a dict"),
        ("syntax error", "SyntaxError"),
    ):
        recipe.write_text(f"def get_config():\n    {body}\n")
        assert says in _error(capsys, ["train", f"--config={recipe}", "--workdir=x"], 2)
    (tmp_path / "broken.json").write_text("{")
    assert "not readable as JSON" in _error(
        capsys, ["train", f"--config={tmp_path}/broken.json", "--workdir=x"], 2
    )


def test_bad_folders_name_what_is_wrong_and_exit_3(tmp_path, capsys):
    def fails(dataset, *flags):
        return _error(
            capsys,
            ["train", "--config=digits", f"--workdir={tmp_path}/run", *TINY,
             f"--config.dataset={dataset}", *flags],
            3,
        )  # fmt: skip

    good = _folder(tmp_path / "good")
    assert "did you mean 'good'?" in fails(tmp_path / "goood")
    assert "has 2 classes" in fails(good, "--config.num_classes=3")
    assert "no split 'validation'" in fails(good, "--config.pp.test=validation")
    (good / "train" / "empty").mkdir()
    assert f"{good}/train/empty" in fails(good)
    (good / "train" / "empty").rmdir()
    (good / "train" / "a" / "1.png").write_text("no image")
    assert f"{good}/train/a/1.png" in fails(good)


def test_workdir_of_another_run_is_refused(trained, capsys):
    line = _error(
        capsys,
        ["train", "--config=digits", f"--workdir={trained}", *TINY, "--config.base_lr=0.5"],
        2,
    )
    assert "base_lr 0.001 -> 0.5" in line
    # What no number depends on may change.
    assert _train(trained, "--config.prefetch=1", "--config.checkpoint_every=7") == 0


def test_missing_checkpoints_and_images_exit_3(trained, tmp_path, picture, capsys):
    assert "did you mean 'tiny'?" in _error(
        capsys, ["evaluate", f"--workdir={trained.parent}/tinny"], 3
    )
    assert "holds no checkpoints" in _error(capsys, ["evaluate", f"--workdir={tmp_path}"], 3)
    assert "missing.jpg" in _error(
        capsys, ["predict", f"--checkpoint={trained}", str(picture), "missing.jpg"], 3
    )
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    assert str(text) in _error(capsys, ["predict", f"--checkpoint={trained}", str(text)], 3)


def test_overflow_stops_with_exit_4_and_keeps_the_last_checkpoint(tmp_path, capsys):
    workdir = tmp_path / "run"
    line = _error(
        capsys,
        ["train", "--config=digits", f"--workdir={workdir}", *TINY, "--config.base_lr=1e9",
         "--config.optimizer=sgd", "--config.grad_norm_clip=0"],
        4,
    )  # fmt: skip
    assert "is not finite" in line
    assert not (workdir / "checkpoints" / "30").exists()
    steps = [record["step"] for record in runs.metrics_of(workdir)]
    assert all(
        np.isfinite(record["loss"]) for record in runs.metrics_of(workdir) if "loss" in record
    )
    assert steps[-1] < 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--config=digits", "--workdir="], "--workdir=: is empty; give a value, or"),
        (["train", "--config=digits", "--workdir", ""], "--workdir '': is empty"),
        (["evaluate", "--workdir="], "--workdir=: is empty"),
        (["predict", "--checkpoint=run", ""], "'': is empty"),
        (["visualize", "run", "--output="], "--output=: is empty"),
    ],
)
def test_a_variable_that_is_not_set_names_no_folder(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert says in _error(capsys, arguments, 2)
    assert not list(tmp_path.iterdir())


def test_settings_are_not_those_of_every_command(capsys):
    line = _error(capsys, ["evaluate", "--workdir=x", "--config.batch=3"], 2)
    assert "no such flag of evaluate: its settings are those of the run" in line
    assert "did you mean" not in _error(capsys, ["evaluate", "--workdir=x", "--batch=3"], 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_resume(number, code, tmp_path):
    workdir = tmp_path / "run"
    flags = [*TINY, "--config.total_steps=100000", "--config.checkpoint_every=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vit_jax.main", "--config=digits", f"--workdir={workdir}", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    metrics, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"stopped by {number.name} after step" in out
    assert "resume      the same command again" in out
    assert "Traceback" not in err
    step = int(out.split("after step ")[1].split()[0])
    assert (workdir / "checkpoints" / str(step)).is_dir()
    assert runs.metrics_of(workdir)[-1]["step"] == step


def test_help_and_models_are_there(capsys):
    assert main(["models"]) == 0
    assert "ViT-B_16" in capsys.readouterr().out
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
    assert main([]) == 2


def test_published_weights_are_listed(capsys):
    assert main(["models", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in "".join(lines)
    row = next(line for line in lines if line.startswith("vit_tiny_patch16_384.augreg_in21k_ft"))
    assert row.split()[1:] == ["ViT-Ti_16", "21k+1k", "384", "1000", "78.2", "hf", "gs"]
    assert main(["models", "--pretrained", "deit_tiny", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "deit_tiny_patch16_224.fb_in1k"
    assert entry["sources"][0]["url"].startswith("hf://timm/deit_tiny")
    assert entry["preparation"]["size"] == [224, 224]
    assert "did you mean" in _error(capsys, ["models", "--pretrained", "deit_tiny_patch16_242"], 2)
    assert "--pretrained" in _error(capsys, ["models", "--json"], 2)
    assert "--classes=-1: must be at" in _error(capsys, ["models", "vit_ti16", "--classes=-1"], 2)


def test_the_package_runs_as_the_command_line():
    process = subprocess.run(
        [sys.executable, "-m", "vit_jax", "trian"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert "trian: no such command; did you mean 'train'" in process.stderr


def test_import_is_light():
    code = (
        "import sys, vit_jax; vit_jax.create_model; "
        "print([m for m in ('tensorflow', 'torch', 'matplotlib', 'orbax') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
