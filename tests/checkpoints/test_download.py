"""Downloads into the cache: checked, once, from wherever the file is to be had."""

import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from tests.checkpoints.serving import CONTENT, SHA256, Served, Web, error_of, serve
from vit_jax.checkpoints.download import fetch
from vit_jax.errors import CheckpointError


def test_a_file_is_fetched_once_and_checked(web: Web, cache: Path) -> None:
    url = f"{web.url}/weights/B_16.npz"
    path = fetch(url, sha256=SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert path.parent == cache
    assert path.name.startswith("B_16-")
    assert path.suffix == ".npz"
    assert fetch(url) == fetch(url, sha256=SHA256) == path
    assert len(web.asked) == 1
    assert sorted(os.listdir(cache)) == [path.name, f"{path.name}.lock"]
    assert fetch(url, cache=cache.parent / "other").read_bytes() == CONTENT
    assert len(web.asked) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_names_the_file_the_status_and_the_way_out(
    web: Web, status: int
) -> None:
    web.faults = [status]
    url = f"{web.url}/weights/B_16.npz?token=secret"
    message = error_of(url)
    assert message.startswith("B_16.npz: cannot be downloaded: ")
    assert f"{web.url}/weights/B_16.npz answered {status} " in message
    assert "set VIT_JAX_MIRROR" in message
    assert "secret" not in message
    assert len(web.asked) == 1


def test_the_wrong_bytes_are_deleted_and_both_sums_told(web: Web, cache: Path) -> None:
    message = error_of(f"{web.url}/weights/B_16.npz", sha256="0" * 64)
    assert f"has the SHA-256 {SHA256}, not {'0' * 64}" in message
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "page",
    [
        Served(b"Please sign in", content_type="text/html; charset=utf-8"),
        Served(b"\n<!DOCTYPE html><html>", content_type="application/octet-stream"),
    ],
)
def test_a_web_page_is_not_the_file(web: Web, cache: Path, page: Served) -> None:
    web.files["/weights/B_16.npz"] = page
    assert "web page instead of the file" in error_of(f"{web.url}/weights/B_16.npz")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_mirrors_come_first_and_all_are_named(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as mirror:
        monkeypatch.setenv("VIT_JAX_MIRROR", f"{mirror.url}/copies/")
        second = f"{mirror.url}/second"
        message = error_of(f"{web.url}/absent.npz", mirrors=[second])
        tried = [f"{mirror.url}/copies/absent.npz", f"{second}/absent.npz", f"{web.url}/absent.npz"]
        assert [f"{url} answered 404" in message for url in tried] == [True] * 3
        mirror.files["/second/weights/B_16.npz"] = Served(b"another file")
        assert (
            fetch(f"{web.url}/weights/B_16.npz", mirrors=[second]).read_bytes() == b"another file"
        )
        web.asked.clear()
        path = fetch(f"{web.url}/weights/B_16.npz", sha256=SHA256, mirrors=[second])
        assert path.read_bytes() == CONTENT
        assert len(web.asked) == 1, "a wrong mirror does not stand in the way of the source"
    with pytest.raises(CheckpointError, match="a mirror begins with https://"):
        fetch("https://example.org/b.npz", mirrors=["mirror.example"])


def test_a_bucket_and_the_hub_are_asked_for_at_the_mirror(web: Web) -> None:
    web.files["/vit_models/augreg/B_16.npz"] = Served(CONTENT)
    web.files["/timm/vit/resolve/main/model.safetensors"] = Served(CONTENT[:10])
    web.files["/timm/vit/resolve/v1/model.safetensors"] = Served(CONTENT[:11])
    for source, size in (
        ("gs://vit_models/augreg/B_16.npz", 100_000),
        ("hf://timm/vit/model.safetensors", 10),
        ("hf://timm/vit@v1/model.safetensors", 11),
    ):
        assert fetch(source, mirrors=[web.url]).stat().st_size == size


def test_without_huggingface_hub_the_hub_is_read_over_https(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", f"{web.url}/of/")
    web.files["/of/timm/vit/resolve/v1/model.safetensors"] = Served(CONTENT)
    assert fetch("hf://timm/vit@v1/model.safetensors").read_bytes() == CONTENT
    message = error_of("hf://timm/vit/model.safetensors", mirrors=[f"{web.url}/copies"])
    assert f"{web.url}/copies/timm/vit/resolve/main/model.safetensors answered 404" in message
    assert f"{web.url}/of/timm/vit/resolve/main/model.safetensors answered 404" in message
    assert "token" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_the_extra_is_named_where_the_hub_asks_for_a_token(
    web: Web, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.faults = [status]
    message = error_of("hf://meta/gated/model.safetensors")
    assert f"answered {status} " in message
    assert "needs a token and huggingface_hub: pip install 'vit_jax[hub]'" in message


def test_huggingface_hub_is_used_where_it_is(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def hf_hub_download(repo: str, file: str, *, revision: str, local_dir: str) -> str:
        if revision != "main":
            raise RuntimeError("404 Client Error.\n\nRevision not found")
        path = Path(local_dir) / file
        path.parent.mkdir(parents=True)
        path.write_bytes(f"{repo} {file}".encode())
        return str(path)

    fake = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    path = fetch("hf://timm/vit/sub/model.safetensors")
    assert path.read_bytes() == b"timm/vit sub/model.safetensors"
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.lock"]
    message = error_of("hf://timm/vit@v9/model.safetensors")
    assert "cannot be had (404 Client Error. Revision not found)" in message


def test_offline_only_the_cache_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{web.url}/weights/B_16.npz"
    path = fetch(url)
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    assert fetch(url) == path
    message = error_of(f"{web.url}/weights/L_16.npz")
    assert "is not in the cache" in message
    assert "VIT_JAX_OFFLINE forbids downloads" in message
    monkeypatch.setenv("VIT_JAX_OFFLINE", "0")
    assert "answered 404" in error_of(f"{web.url}/weights/L_16.npz")


def test_a_damaged_cached_file_is_fetched_again(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    url = f"{web.url}/weights/B_16.npz"
    path = fetch(url, sha256=SHA256)
    path.write_bytes(b"damaged")
    assert fetch(url, sha256=SHA256).read_bytes() == CONTENT
    assert "it is downloaded again" in caplog.text


def test_local_files_are_returned_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a b.npz"
    path.write_bytes(CONTENT)
    assert fetch(path) == fetch(str(path)) == fetch(path.as_uri(), sha256=SHA256) == path
    assert fetch("absent.npz") == Path("absent.npz")
    assert "has the SHA-256" in error_of(str(path), sha256="0" * 64)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket/a.npz", "files are not fetched by s3://"),
        ("hff://a/b/c", "did you mean 'hf'?"),
        ("hf://timm/model.safetensors", "is not of the form hf://OWNER/NAME/FILE"),
        ("http://127.0.0.1:1/a.npz", "cannot be reached (Connection refused)"),
        ("http://127.0.0.1:port/a.npz", "is no URL"),
    ],
)
def test_locations_that_are_none(web: Web, url: str, says: str) -> None:
    assert says in error_of(url)


def test_a_cache_that_cannot_be_written(web: Web, cache: Path) -> None:
    cache.write_text("a file")
    assert "cannot be written" in error_of(f"{web.url}/weights/B_16.npz")


FETCHER = """
import sys
from vit_jax.checkpoints.download import fetch
print(fetch(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_two_processes_fetch_a_file_once(web: Web) -> None:
    url = f"{web.url}/weights/B_16.npz"
    command = [sys.executable, "-c", FETCHER, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = outputs
    assert Path(path.strip()).read_bytes() == CONTENT
    assert len(web.asked) == 1


def test_threads_wait_for_each_other(web: Web) -> None:
    url = f"{web.url}/weights/B_16.npz"
    threads = [threading.Thread(target=fetch, args=(url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(web.asked) == 1
