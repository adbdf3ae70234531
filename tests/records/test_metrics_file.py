"""Metrics on a disk that takes no more: no line is lost, none is half written, none comes twice."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from vit_jax.errors import CheckpointError
from vit_jax.records import metrics_file
from vit_jax.records.metrics_file import MetricsFile, read_metrics

resource = pytest.importorskip("resource", reason="Windows has no limits of files")


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _steps(path: Path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def test_lines_wait_for_the_disk_and_none_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, 0)
    file.write(1, {"loss": 0.5})
    with no_file_beyond(path.stat().st_size + 7):  # a part of the next line fits
        file.write(2, {"loss": 0.25})
        file.write(3, {"loss": 0.125})
        assert path.read_text() == '{"step": 1, "loss": 0.5}\n'
        assert [line["step"] for line in file.secured()] == [2, 3]
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl cannot be written"):
            file.finish()
    assert len(caplog.messages) == 1, "it is said once"
    file.write(4, {"loss": 0.0625})
    assert (_steps(path), file.secured()) == ([1, 2, 3, 4], [])
    file.finish()
    with no_file_beyond(path.stat().st_size):
        file.write(5, {"loss": 0.0})
    assert len(caplog.messages) == 2, "and again, when it happens again"
    file.finish()
    assert _steps(path) == [1, 2, 3, 4, 5]


def test_a_run_that_goes_on_has_the_lines_that_waited(tmp_path: Path) -> None:
    """The file knows steps 1 to 3; the checkpoint of step 5 has the lines that followed."""
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        MetricsFile(path, step).write(step, {"loss": 0.5})
    waiting = [{"step": step, "loss": 0.5} for step in (3, 4, 5)]
    MetricsFile(path, 5, waiting)
    assert _steps(path) == [1, 2, 3, 4, 5]
    path.unlink()
    MetricsFile(path, 5, waiting)
    assert _steps(path) == [3, 4, 5]


def test_lines_that_may_not_be_on_the_disk_itself_belong_into_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise OSError(errno.EIO, path.name)

    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    for step in (1, 2):
        file.write(step, {"loss": 0.5})
    with monkeypatch.context() as patched:
        patched.setattr(metrics_file, "sync", fails)
        assert [line["step"] for line in file.secured()] == [1, 2]
    file.write(3, {"loss": 0.5})
    assert file.secured() == []


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        MetricsFile(path, 0)
    path.rmdir()
    file = MetricsFile(path, 0)
    path.mkdir()
    file.write(1, {"loss": 0.5})
    assert [line["step"] for line in file.secured()] == [1]
