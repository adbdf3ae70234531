"""Damage to each file of a checkpoint, in each way: noticed and named, or provably harmless."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.checkpoints.states import assert_restores
from vit_jax.checkpoints import integrity

Damage = Callable[[Path, Random], None]


def flip_a_bit(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def flip_the_first_bit(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def flip_the_last_bit(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 128
    file.write_bytes(content)


def cut_off(file: Path, random: Random) -> None:
    os.truncate(file, random.randrange(file.stat().st_size))


def empty(file: Path, random: Random) -> None:
    os.truncate(file, 0)


def lengthen(file: Path, random: Random) -> None:
    with file.open("ab") as stream:
        stream.write(b"\0")


def delete(file: Path, random: Random) -> None:
    file.unlink()


def make_a_folder(file: Path, random: Random) -> None:
    file.unlink()
    file.mkdir()


def rename(file: Path, random: Random) -> None:
    file.rename(file.with_name(f"{file.name}~"))


def swap_with_another(file: Path, random: Random) -> None:
    """Two files of a step, each whole, in each other's place."""
    step = next(folder for folder in file.parents if folder.name == "8")
    others = [one for one in _files(step) if one.read_bytes() != file.read_bytes()]
    other = random.choice(others)
    content = other.read_bytes()
    other.write_bytes(file.read_bytes())
    file.write_bytes(content)


DAMAGES: tuple[Damage, ...] = (
    *(flip_a_bit, flip_the_first_bit, flip_the_last_bit, cut_off, empty, lengthen),
    *(delete, make_a_folder, rename, swap_with_another),
)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_no_file_is_damaged_unnoticed(saved: Path, tmp_path: Path, damage: Damage) -> None:
    names = [path.relative_to(saved / "8") for path in _files(saved / "8")]
    assert len(names) > 10
    for number, name in enumerate(names):
        folder = Path(shutil.copytree(saved / "8", tmp_path / str(number) / "8"))
        assert integrity.damage(folder) is None
        damage(folder / name, Random(number))
        said = integrity.damage(folder)
        assert said is not None, name
        # A bit of the seal may be one of another file's digest; of two swapped files one is named.
        elsewhere = damage is swap_with_another or name.name == integrity.SEAL
        assert elsewhere or said.split(":")[0].startswith(name.as_posix()), said


def test_an_added_file_is_noticed_wherever_it_is(saved: Path, tmp_path: Path) -> None:
    folders = [saved / "8", *(path for path in (saved / "8").rglob("*") if path.is_dir())]
    for number, folder in enumerate(folders):
        copy = Path(shutil.copytree(saved / "8", tmp_path / str(number) / "8"))
        added = folder.relative_to(saved / "8") / "added"
        (copy / added).touch()
        said = integrity.damage(copy)
        assert said == f"{added.as_posix()}: not there when the folder was sealed"


def test_each_bit_of_the_seal_that_can_tip_is_noticed(saved: Path, tmp_path: Path) -> None:
    folder, random = Path(shutil.copytree(saved / "8", tmp_path / "8")), Random(0)
    seal = folder / integrity.SEAL
    content = seal.read_bytes()
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << random.randrange(8)
        seal.write_bytes(damaged)
        assert integrity.damage(folder) is not None, content[position - 20 : position + 20]


def _touch(directory: Path) -> None:
    for file in _files(directory):
        os.utime(file, (0, 0))
        file.chmod(0o600)


def _add_an_empty_folder(directory: Path) -> None:
    (directory / "8" / "state" / "new").mkdir()


def _move_the_directory(directory: Path) -> None:
    moved = directory.with_name("moved")
    directory.rename(moved)
    moved.rename(directory)


@pytest.mark.parametrize("change", [_touch, _add_an_empty_folder, _move_the_directory])
def test_what_is_not_noticed_changes_no_bit(
    directory: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    change(directory)
    assert_restores(directory, 8)
    assert caplog.messages == []
