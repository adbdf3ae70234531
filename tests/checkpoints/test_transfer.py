"""Transfers that break off: tried again, resumed, and started over when the file has changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.serving import CONTENT, SHA256, Served, Web, error_of
from vit_jax.checkpoints import transfer
from vit_jax.checkpoints.download import fetch


@pytest.mark.parametrize("faults", [[500], [503, 429, 502], [("drop", 0)], ["hang"]])
def test_what_may_pass_is_tried_again(web: Web, faults: list[Any]) -> None:
    web.faults = list(faults)
    assert fetch(f"{web.url}/weights/B_16.npz").read_bytes() == CONTENT
    assert len(web.asked) == len(faults) + 1


def test_a_dropped_connection_is_resumed(web: Web) -> None:
    web.faults = [("drop", 30_000), ("drop", 20_000)]
    assert fetch(f"{web.url}/weights/B_16.npz").read_bytes() == CONTENT
    assert [asked for _, asked in web.asked] == [None, "bytes=30000-", "bytes=50000-"]


def test_attempts_are_bounded_and_leave_the_part_for_the_next_time(web: Web, cache: Path) -> None:
    url = f"{web.url}/weights/B_16.npz"
    web.faults = [("drop", 1000)] * transfer.ATTEMPTS
    assert "broke off after 5000 of 100000 bytes (5 times in a row)" in error_of(url)
    assert [p.stat().st_size for p in cache.glob("*.part")] == [5000]
    assert fetch(url).read_bytes() == CONTENT
    assert web.asked[-1] == ("/weights/B_16.npz", "bytes=5000-")


def test_progress_earns_more_attempts(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PROGRESS", 1000)
    web.faults = [("drop", 10_000)] * 8
    assert fetch(f"{web.url}/weights/B_16.npz").read_bytes() == CONTENT


def test_starting_over_is_no_progress(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PROGRESS", 1000)
    web.files["/weights/B_16.npz"].etag = None
    web.faults = [("drop", 10_000), ("drop", 20_000)] * 8
    assert "broke off after 20000 of 100000 bytes" in error_of(f"{web.url}/weights/B_16.npz")
    assert len(web.asked) == transfer.ATTEMPTS + 1


def interrupted(web: Web, url: str) -> None:
    """Leaves a part of 5,000 bytes."""
    web.faults = [("drop", 1000)] * transfer.ATTEMPTS
    error_of(url)


@pytest.mark.parametrize(
    ("file", "resumes"),
    [
        (Served(CONTENT[::-1], etag='"2"'), False),
        (Served(CONTENT[::-1][:-1], etag=None), False),
        (Served(CONTENT[::-1], etag=None), False),  # nothing tells, not even its length
        (Served(CONTENT[::-1], ranges=False), False),
        (Served(CONTENT[:4000], etag='"2"'), False),
        (Served(CONTENT), True),
    ],
)
def test_a_changed_file_starts_over(web: Web, file: Served, resumes: bool) -> None:
    url = f"{web.url}/weights/B_16.npz"
    if file.etag is None:
        web.files["/weights/B_16.npz"].etag = None
    interrupted(web, url)
    web.files["/weights/B_16.npz"] = file
    assert fetch(url).read_bytes() == file.content
    assert len(web.asked) == transfer.ATTEMPTS + 1
    assert (web.asked[-1][1] == "bytes=5000-") is (resumes or not file.ranges or file.etag == '"2"')


def test_a_part_longer_than_the_file_starts_over(web: Web) -> None:
    url = f"{web.url}/weights/B_16.npz"
    interrupted(web, url)
    web.files["/weights/B_16.npz"] = Served(CONTENT[:3000])
    assert fetch(url).read_bytes() == CONTENT[:3000]


def test_a_damaged_note_starts_over(web: Web, cache: Path) -> None:
    url = f"{web.url}/weights/B_16.npz"
    interrupted(web, url)
    next(cache.glob("*.part.json")).write_text("{")
    assert fetch(url).read_bytes() == CONTENT
    assert web.asked[-1][1] is None


def test_a_part_is_not_resumed_from_another_server(web: Web, cache: Path) -> None:
    url = f"{web.url}/weights/B_16.npz"
    interrupted(web, url)
    note = next(cache.glob("*.part.json"))
    note.write_text(json.dumps(json.loads(note.read_text()) | {"url": "https://elsewhere"}))
    assert fetch(url).read_bytes() == CONTENT
    assert web.asked[-1][1] is None


def test_a_whole_part_is_only_checked(web: Web, cache: Path) -> None:
    url = f"{web.url}/weights/B_16.npz"
    interrupted(web, url)
    next(cache.glob("*.part")).write_bytes(CONTENT)
    before = len(web.asked)
    assert fetch(url, sha256=SHA256).read_bytes() == CONTENT
    assert len(web.asked) == before


def test_a_file_of_unknown_length(web: Web) -> None:
    web.files["/weights/B_16.npz"].length = False
    assert fetch(f"{web.url}/weights/B_16.npz", sha256=SHA256).read_bytes() == CONTENT


def test_an_interrupt_leaves_the_part(
    web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "_CHUNK", 1000)
    with pytest.raises(KeyboardInterrupt):
        transfer.download(f"{web.url}/weights/B_16.npz", cache.parent / "a.part", interrupt)
    assert (cache.parent / "a.part").stat().st_size == 1000
    transfer.download(f"{web.url}/weights/B_16.npz", cache.parent / "a.part", lambda *_: None)
    assert (cache.parent / "a.part").read_bytes() == CONTENT
    assert web.asked[-1][1] == "bytes=1000-"
