"""Which images a name stands for, and how their bytes are had."""

import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from tests.checkpoints.serving import Served, Web, serve
from tests.data import pictures
from vit_jax.checkpoints import transfer
from vit_jax.errors import DataError
from vit_jax.prediction import inputs
from vit_jax.prediction.inputs import expand, read


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VIT_JAX_OFFLINE", raising=False)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    with serve() as web:
        yield web


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_a_folder_is_its_images_at_any_depth_in_order(tmp_path):
    touch(tmp_path, "b.JPG", "a/2.png", "a/10.png", "c/d/e.webp", "notes.txt", ".hidden.jpg", "f")
    os.symlink(tmp_path, tmp_path / "a" / "round")  # leads back; each image is there once
    found = expand([str(tmp_path)])
    assert found == [
        str(tmp_path / name) for name in ("a/10.png", "a/2.png", "b.JPG", "c/d/e.webp")
    ]


def test_patterns_match_files_sorted_and_a_name_with_marks_is_a_file(tmp_path, monkeypatch):
    touch(tmp_path, "x2.jpg", "x1.jpg", "deep/er/x3.jpg", "y.jpg", "a[1].jpg")
    (tmp_path / "xfolder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    assert expand(["x*.jpg"]) == ["x1.jpg", "x2.jpg"]
    assert expand(["**/x?.jpg"]) == ["deep/er/x3.jpg", "x1.jpg", "x2.jpg"]
    assert expand(["a[1].jpg", "y.jpg"]) == ["a[1].jpg", "y.jpg"]


def test_standard_input_is_a_name_a_line_taken_as_it_is(tmp_path):
    lines = ["with space .jpg\n", "\n", "https://x.example/a*.jpg\r\n", "last"]
    assert expand(["first", "-"], lines) == [
        *("first", "with space .jpg", "https://x.example/a*.jpg", "last"),
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [("folder", "holds no image file"), ("*.gif", "matches no file"), ("-", "names no image")],
)
def test_nothing_found_is_one_line(given, says, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=says) as error:
        expand([given])
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_are_found_out_when_read(tmp_path):
    missing = str(tmp_path / "missing.jpg")
    assert expand([missing]) == [missing]
    with pytest.raises(DataError, match=r"missing\.jpg: cannot be read: No such file"):
        read(missing)


def test_an_image_of_the_web_is_kept_nowhere(web, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = pictures.encoded(np.zeros((4, 4, 3), np.uint8))
    web.files["/cat.png?size=4"] = Served(content)
    web.faults += [503, ("drop", 10)]  # tried again, and gone on with
    assert read(f"{web.url}/cat.png?size=4") == content
    assert list(tmp_path.iterdir()) == []


def test_what_the_web_does_not_give_is_one_line_without_secrets(web, monkeypatch):
    web.files["/page"] = Served(b"<html>", "text/html")
    web.files["/large"] = Served(bytes(3000))
    web.files["/endless"] = Served(bytes(3000), length=False)
    monkeypatch.setattr(inputs, "MOST_BYTES", 2000)
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    for url, says in (
        (f"{web.url}/none?token=secret", "answered 404"),
        (f"{web.url}/page", "web page"),
        (f"{web.url}/large", "is larger than"),
        (f"{web.url}/endless", "is larger than"),
        (f"http://127.0.0.1:{port}/x", "cannot be reached"),
    ):
        with pytest.raises(DataError, match=says) as error:
            read(url)
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)
    monkeypatch.setenv("VIT_JAX_OFFLINE", "1")
    with pytest.raises(DataError, match="VIT_JAX_OFFLINE forbids"):
        read(f"{web.url}/large")
