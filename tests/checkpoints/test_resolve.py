"""From what a user names to a file: folders, names that mean nothing, configs beside a URL."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.serving import Served, Web
from vit_jax.checkpoints.arrays import write_npz
from vit_jax.checkpoints.download import fetch
from vit_jax.checkpoints.resolve import resolve
from vit_jax.errors import AbsentError, CheckpointError

WEIGHTS = {"embedding/kernel": np.zeros((4, 4, 3, 8), np.float32)}
OTHERS = {"images": np.zeros(3, np.float32)}


def test_a_folder_means_the_one_file_of_weights_in_it(tmp_path):
    write_npz(tmp_path / "weights.npz", WEIGHTS)
    write_npz(tmp_path / "expected.npz", OTHERS)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "photo.png").write_bytes(b"")
    assert resolve(tmp_path).path == tmp_path / "weights.npz"


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors", "model.safetensors.index.json"])
def test_the_usual_names_win(name, tmp_path):
    write_npz(tmp_path / "a.npz", WEIGHTS)
    write_npz(tmp_path / name, WEIGHTS)
    located = resolve(tmp_path)
    assert located.path == (tmp_path / name if name.endswith("npz") else tmp_path)


def test_of_both_usual_names_safetensors_is_opened_as_from_the_hub(tmp_path):
    for name in ("model.npz", "model.safetensors"):
        write_npz(tmp_path / name, WEIGHTS)
    assert resolve(tmp_path).path == tmp_path


def test_of_several_files_none_is_guessed(tmp_path):
    for i in range(7):
        write_npz(tmp_path / f"{i}.npz", WEIGHTS)
    with pytest.raises(CheckpointError, match=r"holds 0\.npz, .*4\.npz and 2 more; name one"):
        resolve(tmp_path)


@pytest.fixture
def url(web: Web) -> str:
    """Of weights without a config beside them."""
    web.files["/weights/model.safetensors"] = Served(b"weights")
    return f"{web.url}/weights/model.safetensors"


def test_configs_lie_beside_a_url(web: Web, url: str) -> None:
    for name in ("config", "preprocessor_config"):
        web.files[f"/weights/{name}.json"] = Served(f'{{"of": "{name}"}}'.encode())
    located = resolve(url)
    assert (located.config, located.processor) == ({"of": "config"}, {"of": "preprocessor_config"})


def test_of_timm_one_config_is_asked_for(web: Web, url: str) -> None:
    web.files["/weights/config.json"] = Served(b'{"architecture": "vit"}')
    assert (resolve(url).config, resolve(url).processor) == ({"architecture": "vit"}, {})
    assert [path for path, _ in web.asked] == ["/weights/model.safetensors", "/weights/config.json"]


@pytest.mark.parametrize("status", [404, 410])
def test_where_there_is_no_config_the_cache_knows_it(
    web: Web, url: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(url)
    web.faults = [status, status]
    assert (resolve(url).config, resolve(url).processor) == ({}, {})
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    assert (resolve(url).config, resolve(url).processor) == ({}, {})


@pytest.mark.parametrize("fault", [401, 403, 429, 503, "hang"])
def test_a_config_that_cannot_be_had_is_not_taken_for_absent(
    web: Web, url: str, fault: int | str
) -> None:
    fetch(url)
    web.faults = [fault] * 5
    with pytest.raises(CheckpointError, match=r"^config\.json: cannot be downloaded: ") as error:
        resolve(url)
    assert not isinstance(error.value, AbsentError)


def test_offline_a_config_that_nobody_asked_for_is_not_taken_for_absent(
    web: Web, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(url)
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"config\.json: is not in the cache"):
        resolve(url)


def test_a_mirror_does_not_say_that_there_is_no_config(
    web: Web, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(url)
    monkeypatch.setenv("VIT_JAX_MIRROR", f"{web.url}/copies")
    web.faults = [404, 403]  # the mirror, and the server itself
    with pytest.raises(CheckpointError, match=r"config\.json answered 403 "):
        resolve(url)


def test_object_stores_refuse_what_is_not_there(web: Web, url: str) -> None:
    web.server = "AmazonS3"
    fetch(url)
    web.faults = [403, 403]
    assert (resolve(url).config, resolve(url).processor) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "absent"), [("RemoteEntryNotFoundError", True), ("LocalEntryNotFoundError", False)]
)
def test_the_hub_s_library_tells_absent_from_out_of_reach(
    kind: str, absent: bool, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hf_hub_download(repo: str, file: str, *, revision: str, local_dir: str) -> str:
        if file.endswith(".json"):
            raise type(kind, (Exception,), {})("cannot be had")
        path = Path(local_dir) / file
        path.parent.mkdir(parents=True)
        path.touch()
        return str(path)

    fake = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    if absent:
        assert resolve("hf://timm/vit/model.safetensors").config == {}
    else:
        with pytest.raises(CheckpointError, match=r"^config\.json: cannot be downloaded"):
            resolve("hf://timm/vit/model.safetensors")


def test_an_npz_of_the_web_says_what_is_inside_it(web, tmp_path):
    notes = {"config.json": '{"vit_jax": {"fields": {"positions": "sincos2d"}}}'}
    write_npz(tmp_path / "a.npz", WEIGHTS, notes)
    web.files["/a.npz"] = Served((tmp_path / "a.npz").read_bytes())
    located = resolve(f"{web.url}/a.npz")
    assert located.config == {"vit_jax": {"fields": {"positions": "sincos2d"}}}
