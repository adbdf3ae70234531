"""Damaged checkpoints: never restored, always told, and a good one is found if there is one."""

import shutil
from pathlib import Path

import pytest

from tests.checkpoints.states import assert_restores, make_state
from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.store import Store
from vit_jax.errors import CheckpointError


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES = {"flip": flip, "truncate": truncate, "delete": Path.unlink}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_to_any_file_falls_back_to_the_step_before(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    names = [path.relative_to(saved) for path in (saved / "8").rglob("*") if path.is_file()]
    assert len(names) > 10
    for number, name in enumerate(names):
        directory = Path(shutil.copytree(saved, tmp_path / str(number)))
        DAMAGES[kind](directory / name)
        caplog.clear()
        assert_restores(directory, 4)
        assert "step 8 is damaged" in caplog.text, name
        assert name.name in caplog.text or name.name == integrity.SEAL
        assert "falling back to step 4" in caplog.text
        with pytest.raises(CheckpointError, match=r"step 8 .* cannot be restored"):
            Store(directory).restore(None, step=8)


def test_every_byte_of_the_seal_matters(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "8", tmp_path / "8"))
    seal = (folder / integrity.SEAL).read_bytes()
    for position in range(0, len(seal), 7):
        damaged = bytearray(seal)
        damaged[position] ^= 4  # turns no space into another white space
        (folder / integrity.SEAL).write_bytes(damaged)
        assert integrity.damage(folder) is not None, seal[position - 20 : position + 20]
    (folder / integrity.SEAL).write_bytes(seal)
    assert integrity.damage(folder) is None
    assert integrity.damage(folder.rename(tmp_path / "9")) is not None


def test_a_file_that_was_not_written_is_damage(directory: Path) -> None:
    (directory / "8" / "state" / "d" / "extra").touch()
    assert_restores(directory, 4)


@pytest.mark.parametrize("name", [".DS_Store", "._metadata", "Thumbs.db"])
def test_what_systems_leave_in_any_folder_is_no_damage(directory: Path, name: str) -> None:
    for folder in (directory / "8", directory / "8" / "state"):
        (folder / name).write_text("x")
    assert_restores(directory, 8)


def test_what_cannot_be_read_is_not_said_to_be_damaged(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = integrity._sha256

    def fails(path: Path) -> str:
        if "8" in path.parts:
            raise OSError(5, "Input/output error", str(path))
        return digest(path)

    with monkeypatch.context() as patch, Store(directory, keep=1) as store:
        patch.setattr(integrity, "_sha256", fails)
        assert store.metadata() == {"step": 4}
        assert "step 8 cannot be read (" in caplog.text
        assert ": cannot be read (Input/output error))" in caplog.text
        store.save(6, make_state(6), {"step": 6})
    assert Store(directory).steps() == [6, 8]
    assert_restores(directory, 8)


def test_numbered_folders_that_are_no_checkpoints_never_count(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "12").mkdir()
    (directory / "16" / "state").mkdir(parents=True)
    (directory / "16" / "state" / "_METADATA").write_text("{}")
    (directory / "20.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (directory / "024").mkdir()
    (directory / "28").touch()
    (directory / ".staging" / "32").mkdir(parents=True, exist_ok=True)
    assert Store(directory).steps() == [4, 8]
    assert_restores(directory, 8)
    assert "step 12 is damaged" in caplog.text
    assert "step 16 is damaged" in caplog.text
    with Store(directory) as store:
        store.save(12, make_state(12), {"step": 12})
        store.save(16, make_state(16), {"step": 16})
    assert not any((directory / ".staging").iterdir())
    assert Store(directory).steps() == [12, 16]
    assert_restores(directory, 16)


def test_an_empty_numbered_folder_alone_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "8").mkdir()
    assert Store(tmp_path).restore(None) is None


def test_when_all_steps_are_damaged_the_error_says_so(directory: Path) -> None:
    flip(directory / "4" / "metadata" / "metadata")
    flip(directory / "8" / "state" / "_METADATA")
    with pytest.raises(CheckpointError, match=r"all checkpoints are damaged \(step 8: state/_META"):
        Store(directory).restore(None)


def test_a_damaged_step_is_saved_again_when_the_run_comes_back_to_it(directory: Path) -> None:
    truncate(next((directory / "8" / "state" / "d").iterdir()))
    with Store(directory) as store:
        assert store.metadata() == {"step": 4}
        store.save(8, make_state(8), {"step": 8})
    assert Store(directory).steps() == [4, 8]
    assert_restores(directory, 8)


def test_retention_counts_only_good_steps_and_deletes_only_checkpoints(directory: Path) -> None:
    flip(directory / "8" / "metadata" / "metadata")  # the size stays: only the digest tells
    (directory / "2").mkdir()
    (directory / "2" / "notes.txt").touch()
    with Store(directory, keep=2) as store:
        assert store.metadata() == {"step": 4}
        store.save(6, make_state(6), {"step": 6})
    assert Store(directory).steps() == [4, 6]
    assert not (directory / "8").exists()
    assert (directory / "2" / "notes.txt").exists()


def test_a_run_that_goes_back_keeps_its_own_step_and_the_newer_ones(directory: Path) -> None:
    with Store(directory, keep=1) as store:
        assert store.metadata(4) == {"step": 4}
        store.save(6, make_state(6), {"step": 6})
    assert Store(directory).steps() == [6, 8]
