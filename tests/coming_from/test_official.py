"""The official repository's commands, with the path of the config changed and nothing else.

Their text is that of google-research/vision_transformer at c6de1e5: README, "Fine-tuning a model",
and the first lines of vit_jax/configs/augreg.py. Behind them stand flags that the official code has
too, which make the model, the images and the run small. The data lie where TFDS would have put
them, written by its own writer; the weights have the layout of the official files.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs, xla
from tests.checkpoints.serving import Served, serve
from tests.data import tfds_sets
from tests.golden import REPOSITORY
from vit_jax import trees
from vit_jax.checkpoints import locations, transfer
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.main import main
from vit_jax.models.zoo import create_model
from vit_jax.pretrained import load_run

VIT = """python -m vit_jax.main --workdir=/tmp/vit-$(date +%s) \\
    --config=$(pwd)/vit_jax/configs/vit.py:b16,cifar10 \\
    --config.pretrained_dir='gs://vit_models/imagenet21k'
"""
MIXER = """python -m vit_jax.main --workdir=/tmp/vit-$(date +%s) \\
    --config=$(pwd)/vit_jax/configs/mixer_base16_cifar10.py \\
    --config.pretrained_dir='gs://mixer_models/imagenet21k'
"""
AUGREG = """python -m vit_jax.main --workdir=/tmp/vit-$(date +%s) \\
    --config=$(pwd)/vit_jax/configs/augreg.py:R_Ti_16 \\
    --config.dataset=oxford_iiit_pet \\
    --config.base_lr=0.01
"""
R_TI_16 = "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
AUGREG_NAMED = f"""python -m vit_jax.main --workdir=/tmp/vit \\
    --config=$(pwd)/vit_jax/configs/augreg.py:{R_TI_16} \\
    --config.dataset=oxford_iiit_pet \\
    --config.pp.train='train[:90%]' \\
    --config.base_lr=0.01
"""

# Each flag is one of the official code too.
SMALL_RUN = [
    *("--config.total_steps=3", "--config.warmup_steps=1", "--config.batch=16"),
    *("--config.accum_steps=2", "--config.batch_eval=16", "--config.progress_every=1"),
    *("--config.eval_every=3", "--config.checkpoint_every=3", "--config.shuffle_buffer=100"),
    *("--config.prefetch=1", "--config.trainer=train"),
]
SMALL_VIT = [
    *("--config.model.hidden_size=16", "--config.model.transformer.num_layers=1"),
    *("--config.model.transformer.num_heads=2", "--config.model.transformer.mlp_dim=32"),
    *("--config.pp.crop=32", "--config.pp.resize=36"),
]
SMALL_HYBRID = [*SMALL_VIT, "--config.pp.crop=64", "--config.pp.resize=72"]
SMALL_MIXER = [
    *("--config.model.hidden_dim=16", "--config.model.num_blocks=1"),
    *("--config.model.tokens_mlp_dim=8", "--config.model.channels_mlp_dim=32"),
    "--config.pp.crop=32",
]
ENCODER = {"num_layers": 1, "num_heads": 2, "mlp_dim": 32}


def flags_of(command: str, workdir: Path) -> list[str]:
    """Returns what follows `python -m vit_jax.main` once a shell has read a command."""
    command = command.replace("$(pwd)/vit_jax/configs", f"{REPOSITORY}/configs")
    words = shlex.split(command.replace("\\\n", " ").replace("$(date +%s)", "0"))
    assert words[:3] == ["python", "-m", "vit_jax.main"]
    assert words[3].startswith("--workdir=/tmp/vit")
    return [f"--workdir={workdir}", *words[4:]]


def weights(name: str, pixels: int, **fields: Any) -> dict[str, np.ndarray]:
    """Returns random weights of a model with 5 classes, named as in the official files."""
    model = create_model(name, 5, **fields)
    images = jnp.zeros((1, pixels, pixels, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    random = np.random.default_rng(0)
    flat = trees.flatten(shapes)
    return {path: random.normal(0, 0.3, leaf.shape).astype("f4") for path, leaf in flat.items()}


# Each file as it was released: pre_logits in the ViT, positions of another size.
FILES = {
    "ViT-B_16": weights(
        "ViT-B_16", 48, hidden_size=16, transformer=ENCODER, representation_size=16
    ),
    "Mixer-B_16": weights(
        "Mixer-B_16", 32, hidden_dim=16, num_blocks=1, tokens_mlp_dim=8, channels_mlp_dim=32
    ),
    R_TI_16: weights("R+ViT-Ti_16", 64, hidden_size=16, transformer=ENCODER),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with weights/*.npz, and datasets as TFDS leaves them in data/."""
    root = tmp_path_factory.mktemp("official")
    (root / "weights").mkdir()
    for name, arrays in FILES.items():
        write_npz(root / "weights" / f"{name}.npz", arrays)
    for name in ("cifar10", "oxford_iiit_pet"):
        tfds_sets.write_set(root / "data", name, {"train": 40, "test": 20})
    return root


COMMANDS = {
    "vit": (VIT, SMALL_VIT, "ViT-B_16", "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel"),
    "mixer": (MIXER, SMALL_MIXER, "Mixer-B_16", "MixerBlock_0/token_mixing/Dense_0/kernel"),
    "augreg": (AUGREG, SMALL_HYBRID, R_TI_16, "conv_root/kernel"),
    "augreg, file named": (AUGREG_NAMED, SMALL_HYBRID, R_TI_16, "embedding/kernel"),
}


@pytest.mark.slow  # whole runs of three kinds of model, each compiled
@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_fine_tunes(case, place, tmp_path):
    command, small, file, path = COMMANDS[case]
    local = [f"--config.pretrained_dir={place}/weights", f"--config.tfds_data_dir={place}/data"]
    flags = flags_of(command, tmp_path / "run")
    assert main([*flags, *small, *SMALL_RUN, *local, "--config.report=false"]) == 0
    _check(tmp_path / "run", FILES[file][path], path)


def _check(workdir: Path, before: np.ndarray, path: str) -> None:
    """The run is whole, and went from the weights: three small steps lead nowhere else."""
    lines = runs.metrics_of(workdir)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert lines[-1]["step"] == 3
    assert "test_accuracy" in lines[-1]
    run = load_run(workdir)
    after = np.asarray(trees.flatten(run.variables["params"])[path])
    assert 0 < np.abs(after - before).max() < 0.1
    assert len(run.class_names) == (37 if run.config.dataset == "oxford_iiit_pet" else 10)
    assert "pre_logits" not in run.variables["params"]
    assert run.config.base_lr == 0.01 or run.config.dataset == "cifar10"


@pytest.mark.slow  # a process of its own, on one device: nothing of it is compiled already
def test_the_command_itself_from_its_bucket(place, tmp_path):
    """In a process of its own, with gs:// as it stands there, and a mirror in place of Google."""
    with serve() as web:
        file = place / "weights" / "ViT-B_16.npz"
        web.files["/vit_models/imagenet21k/ViT-B_16.npz"] = Served(file.read_bytes())
        flags = [*flags_of(VIT, tmp_path / "run"), *SMALL_VIT, *SMALL_RUN, "--config.report=false"]
        own = {"VIT_JAX_MIRROR": web.url, "VIT_JAX_CACHE": str(tmp_path), "no_proxy": "*"}
        whole = os.environ | own | {"XLA_FLAGS": xla.flags()}
        done = subprocess.run(
            [sys.executable, "-m", "vit_jax.main", *flags,
             f"--config.tfds_data_dir={place}/data"],
            env=whole, cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = COMMANDS["vit"][3]
    _check(tmp_path / "run", FILES["ViT-B_16"][path], path)


@pytest.mark.parametrize(("command", "file"), [(VIT, "ViT-B_16.npz"), (AUGREG, f"{R_TI_16}.npz")])
def test_without_a_network_one_line_says_what_to_do(
    command, file, place, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(locations, "web_url", lambda url: f"http://127.0.0.1:1/{url[5:]}")
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VIT_JAX_MIRROR", raising=False)
    flags = [*flags_of(command, tmp_path / "run"), f"--config.tfds_data_dir={place}/data"]
    bucket = "gs://vit_models/" + ("augreg" if command == AUGREG else "imagenet21k")
    assert main([*flags, f"--config.pretrained_dir={bucket}"]) == 3
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"{file}: cannot be downloaded" in error
    assert "set VIT_JAX_MIRROR to a mirror that has it, or give a file that you have" in error
    assert not (tmp_path / "run").exists()


def test_a_config_where_the_official_one_lay_is_named(tmp_path, capsys):
    config = f"{REPOSITORY}/vit_jax/configs/vit.py:b16,cifar10"
    assert main([f"--config={config}", f"--workdir={tmp_path}/run"]) == 2
    error = capsys.readouterr().err
    assert "no such file; did you mean 'vit'?" in error
    assert error.count("\n") == 1


def test_an_augreg_command_without_data_asks_for_it(place, tmp_path, capsys):
    flags = ["--config=augreg:R_Ti_16", f"--workdir={tmp_path}/run", *SMALL_HYBRID, *SMALL_RUN]
    assert main([*flags, f"--config.pretrained_dir={place}/weights"]) == 2
    assert "give --config.dataset=NAME or a folder" in capsys.readouterr().err


def test_inference_time_says_how_to_measure(tmp_path, capsys):
    assert main(["--config=inference_time:b32,8,64", f"--workdir={tmp_path}/run"]) == 2
    error = capsys.readouterr().err
    assert "vit_jax benchmark infer" in error
    assert error.count("\n") == 1
