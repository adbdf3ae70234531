"""Weights to the Hugging Face hub and back, by its own library, against a hub on the loopback."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import REPOSITORY
from tests.hub_stub import TOKEN, Hub, serve
from tests.test_predict import write
from vit_jax import trees
from vit_jax.checkpoints import hub as hub_module
from vit_jax.checkpoints.arrays import read_arrays
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.inspecting.inspection import inspect
from vit_jax.main import main
from vit_jax.release import convert, push_to_hub

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="needs huggingface_hub: pip install 'vit_jax[hub]'",
)


@pytest.fixture
def hub():
    with serve() as hub:
        yield hub


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "weights.npz")


def run(hub: Hub, tmp_path: Path, *arguments, **environment: str | None):
    """Runs a command in a process of its own: the library reads HF_ENDPOINT when imported."""
    said = {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"),
        "VIT_JAX_CACHE": str(tmp_path / "cache"), "no_proxy": "*", "JAX_PLATFORMS": "cpu",
    } | environment  # fmt: skip
    whole = os.environ | {k: v for k, v in said.items() if v is not None}
    for name in [name for name, value in said.items() if value is None]:
        whole.pop(name, None)
    whole["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "vit_jax.main", *map(str, arguments)],
        env=whole, capture_output=True, text=True, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@needs_hub
def test_there_and_back_the_same_bits_and_no_token_anywhere(hub, weights, tmp_path):
    flags = ["--to=timm", "--licence=mit", "--push-to-hub=me/photos", "--private"]
    done = run(hub, tmp_path, "convert", weights, "out", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        f"pushed {hub.url}/me/photos",
        "open   vit_jax.load_pretrained('hf://me/photos')",
    ]
    assert hub.private == {"me/photos"}
    (files,) = hub.commits["me/photos"].values()
    assert set(files) == {"model.safetensors", "config.json", "README.md"}
    assert b"license: mit" in files["README.md"]
    assert b"vit_jax.load_pretrained('hf://me/photos')" in files["README.md"]
    back = run(hub, tmp_path, "convert", "hf://me/photos", "back.npz", "--to=official")
    assert back.returncode == 0, back.stderr
    straight = read_arrays(convert(weights, tmp_path / "straight.npz", "official"))
    assert trees.difference(read_arrays(tmp_path / "back.npz"), straight) == []
    token = TOKEN.encode()
    assert [p for p in tmp_path.rglob("*") if p.is_file() and token in p.read_bytes()] == []


def _released(classes: int, tmp_path: Path) -> dict[str, bytes]:
    """Returns the files of a small model in the official layout."""
    folder = tmp_path / f"of{classes}"
    source = write(tmp_path / f"{classes}.npz", classes)
    assert main(["convert", str(source), str(folder), "--to=official"]) == 0
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_the_library_what_is_public_is_read(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VIT_JAX_OFFLINE", raising=False)
    first = hub.commit("me/digits", _released(3, tmp_path))
    assert inspect("hf://me/digits").num_classes == 3
    hub.commit("me/digits", _released(4, tmp_path))
    assert inspect("hf://me/digits").num_classes == 4
    assert inspect(f"hf://me/digits@{first}").num_classes == 3
    assert {token for _, _, token in hub.asked} == {None}


@needs_hub
def test_weights_of_another_format_take_the_place_of_those_there(hub, weights, tmp_path):
    others = {"model-00001-of-00002.safetensors": b"old", "model.safetensors.index.json": b"{}"}
    hub.commit("me/photos", others | {"notes.md": b"mine", "sub/model.npz": b"mine"})
    names = {"notes.md", "sub/model.npz", "config.json", "README.md"}
    for format, more in (
        ("transformers", {"model.safetensors", "preprocessor_config.json"}),
        ("official", {"model.npz"}),
    ):
        flags = [f"--to={format}", "--push-to-hub=me/photos"]
        done = run(hub, tmp_path, "convert", weights, format, *flags)
        assert done.returncode == 0, done.stderr
        assert set(list(hub.commits["me/photos"].values())[-1]) == names | more
    done = run(hub, tmp_path, "inspect", "hf://me/photos", "--json")
    assert json.loads(done.stdout)["format"] == "official"


@needs_hub
def test_what_is_new_is_seen_a_revision_is_kept_and_no_network_takes_the_last(hub, tmp_path):
    def classes_of(source, **environment):
        done = run(hub, tmp_path, "inspect", source, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["num_classes"]

    first = hub.commit("me/digits", _released(3, tmp_path))
    assert classes_of("hf://me/digits") == 3
    hub.commit("me/digits", _released(4, tmp_path))
    assert classes_of("hf://me/digits") == 4
    assert classes_of(f"hf://me/digits@{first}") == 3
    assert classes_of("hf://me/digits", VIT_JAX_OFFLINE="1") == 4


ASKED = """
import logging, os, sys
from vit_jax.checkpoints.download import fetch

def asked(event, arguments):
    if event == "socket.connect":
        print(logging.getLevelName(logging.getLogger("huggingface_hub").level), flush=True)
        os._exit(0)

sys.addaudithook(asked)
fetch("hf://me/photos/model.npz")
"""


@needs_hub
def test_the_library_is_quiet_from_its_first_request(tmp_path):
    """It is imported piece by piece, and one of the pieces sets how much it tells."""
    said = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path), "no_proxy": "*"}
    said |= {"VIT_JAX_CACHE": str(tmp_path), "VIT_JAX_MIRROR": "", "VIT_JAX_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        env=os.environ | said, cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "ERROR\n", done.stderr


@needs_hub
def test_a_refusal_is_one_line_and_what_was_written_stays(hub, weights, tmp_path):
    hub.refuses = True
    done = run(hub, tmp_path, "convert", weights, "out", "--to=timm", "--push-to-hub=me/photos")
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "me/photos: cannot be uploaded" in line
    assert "You may not write here" in line or "403" in line
    assert (tmp_path / "out" / "model.safetensors").is_file()
    done = run(hub, tmp_path, "inspect", "hf://me/nothing")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


@needs_hub
def test_nobody_logged_in_is_said_before_anything_is_written(hub, weights, tmp_path):
    flags = ["--to=timm", "--push-to-hub=me/photos"]
    done = run(hub, tmp_path, "convert", weights, "out", *flags, HF_TOKEN=None)
    assert done.returncode == 2
    assert "nobody is logged in" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert hub.asked == []


@pytest.mark.parametrize(
    ("target", "flags", "code", "says"),
    [
        ("out", ["--push-to-hub=photos"], 2, "is not of the form OWNER/NAME"),
        ("out.safetensors", ["--push-to-hub=me/photos"], 2, "name one in the place of"),
        ("out", ["--private"], 2, "goes with --push-to-hub"),
        ("out", ["--licence=my own"], 2, "must be an identifier"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(
    target, flags, code, says, weights, tmp_path, capsys
):
    command = ["convert", str(weights), str(tmp_path / target), "--to=timm", *flags]
    assert main(command) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / target).exists()


def test_without_the_library_the_extra_is_named(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    command = ["convert", str(weights), str(tmp_path / "out"), "--to=timm"]
    assert main([*command, "--push-to-hub=me/photos"]) == 3
    assert "pip install 'vit_jax[hub]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_a_released_folder_is_uploaded(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "check_push", lambda repository: None)
    (tmp_path / "secrets.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds neither"):
        push_to_hub(tmp_path, "me/photos")


def test_an_error_of_the_library_tells_no_token(tmp_path, monkeypatch):
    class Api:
        def create_repo(self, *_, **__):
            raise RuntimeError(f"header Authorization: Bearer {TOKEN} was refused")

    class Library:
        HfApi = Api

        @staticmethod
        def get_token():
            return TOKEN

    monkeypatch.setitem(sys.modules, "huggingface_hub", Library)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="Bearer … was refused"):
        hub_module.push(tmp_path, [], "me/photos")
