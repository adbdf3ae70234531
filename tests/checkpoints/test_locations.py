"""Where remote files lie, where they are kept, and how they are shown."""

from pathlib import Path

import pytest

from vit_jax.checkpoints import locations
from vit_jax.errors import CheckpointError


@pytest.mark.parametrize(
    ("url", "web_url"),
    [
        ("gs://bucket/a b/B_16.npz", "https://storage.googleapis.com/bucket/a%20b/B_16.npz"),
        ("hf://timm/vit/a.bin", "https://huggingface.co/timm/vit/resolve/main/a.bin"),
        ("hf://timm/vit@v1/x/a.bin", "https://huggingface.co/timm/vit/resolve/v1/x/a.bin"),
        (
            "hf://timm/vit@refs%2Fpr%2F1/a",
            "https://huggingface.co/timm/vit/resolve/refs%2Fpr%2F1/a",
        ),
        ("http://a.example/b?c", "http://a.example/b?c"),
    ],
)
def test_every_location_has_a_form_of_the_web(url: str, web_url: str) -> None:
    assert locations.web_url(url) == web_url


def test_a_mirror_stands_for_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_JAX_MIRROR", "https://m.example/x/")
    assert locations.mirrored("gs://vit_models/B_16.npz", ["http://n.example"]) == [
        "https://m.example/x/vit_models/B_16.npz",
        "http://n.example/vit_models/B_16.npz",
    ]
    monkeypatch.setenv("VIT_JAX_MIRROR", "m.example")
    with pytest.raises(CheckpointError, match=r"'m.example': a mirror begins with https://"):
        locations.mirrored("https://a.example/b")


@pytest.mark.parametrize("path", ["a.npz", "/a/b.npz", "C:\\a.npz", "c:/a.npz", "a://b"])
def test_paths_are_no_locations(path: str) -> None:
    assert locations.scheme(path) == ""


def test_secrets_are_not_shown() -> None:
    assert locations.shown("https://me:pass@a.example/b.npz?sig=1#x") == "https://a.example/b.npz"


def test_names_in_the_cache_are_readable_and_differ() -> None:
    urls = [
        "https://a.example/x/B_16.npz",
        "https://b.example/x/B_16.npz",
        "https://a.example/x/B_16.npz?v=2",
        "https://a.example/",
        "https://a.example/..%2F..%2Fetc",
        "https://a.example/.hidden",
        "https://a.example/" + "long" * 100,
    ]
    names = [locations.cached_name(url) for url in urls]
    assert len(set(names)) == len(names)
    assert names[0].startswith("B_16-")
    for name in names:
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(name) < 120
