"""Image folders with captions: a table of them, or a text file beside each image.

Images lie in `FOLDER/{train,test}/` at any depth, or in FOLDER, of which a hash of the paths holds
about 20 % out. In the split's folder or in FOLDER lies `captions.jsonl` or `captions.tsv`:

    {"image": "sea/a.jpg", "caption": "a boat at sea"}            one line for each caption, or
    {"image": "sea/a.jpg", "caption": ["a boat", "at sea"]}       all captions of an image at once
    sea/a.jpg<TAB>a boat at sea

with paths from where the table lies. Without a table, `sea/a.txt` holds the captions of
`sea/a.jpg`, one a line.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vit_jax.data.folder import split_folders
from vit_jax.data.folder_index import FolderIndex, index_folder
from vit_jax.data.held_out import is_test
from vit_jax.data.sources import content
from vit_jax.errors import DataError

TABLES = ("captions.jsonl", "captions.tsv")
# What the fields of a line of JSON may be called; the second name is that of other collections.
_IMAGE, _TEXT = ("image", "file_name"), ("caption", "text")


@dataclasses.dataclass(frozen=True)
class FilePairs:
    """Image files with captions.

    Attributes:
      root: the folder.
      images: their paths, from the root.
      table: {path from the root: captions}; None where each has a text file.
    """

    root: Path
    images: Sequence[str]
    table: Mapping[str, Sequence[str]] | None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> bytes:
        try:
            return content(self.name(index))
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}") from error

    def captions(self, index: int) -> tuple[str, ...]:
        if self.table is not None:
            return tuple(self.table.get(self.images[index], ()))
        file = (self.root / self.images[index]).with_suffix(".txt")
        return tuple(_text(file).splitlines()) if file.is_file() else ()

    def name(self, index: int) -> str:
        return str(self.root / self.images[index])


def open_caption_folder(folder: Path, split: str) -> FilePairs:
    """Returns one split of a folder of images with captions.

    Raises:
      DataError: no such split, no images in it, or a table that cannot be read.
    """
    index = index_folder(folder)
    parts = split_folders(index)
    images = _images(index, split) if split in parts else _hashed(index, parts, split)
    if not images:
        raise DataError(f"{folder}: holds no images for the split {split!r}")
    return FilePairs(folder, images, _table(folder, split if parts else ""))


def _images(index: FolderIndex, directory: str) -> list[str]:
    deeper = [path for paths in index.images(directory).values() for path in paths]
    return sorted(index.loose(directory) + deeper)


def _hashed(index: FolderIndex, parts: Sequence[str], split: str) -> list[str]:
    """Returns the share of an undivided folder whose hash falls into the split."""
    if parts or split not in ("train", "test"):
        has = ", ".join(parts) or "train and test, as it has no split folders"
        raise DataError(
            f"{index.root}: no split {split!r}; has {has} (set config.pp.test or config.pp.train)"
        )
    return [path for path in _images(index, "") if is_test(path) == (split == "test")]


def _table(root: Path, split: str) -> Mapping[str, Sequence[str]] | None:
    """Returns {path from the root: captions}; None if there is no table."""
    for folder in dict.fromkeys((split, "")):
        for name in TABLES:
            file = root / folder / name
            if file.is_file():
                read = _jsonl if file.suffix == ".jsonl" else _tsv
                found: dict[str, list[str]] = {}
                for image, captions in read(file):
                    path = (Path(folder) / image).as_posix()
                    found.setdefault(path, []).extend(captions)
                return found
    return None


def _tsv(file: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in _lines(file):
        image, tab, caption = line.partition("\t")
        if not tab:
            raise DataError(f"{file}, line {number}: must read IMAGE, a tab, CAPTION")
        yield image, [caption]


def _jsonl(file: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in _lines(file):
        try:
            said = json.loads(line)
            image = next(said[name] for name in _IMAGE if name in said)
            texts = next(said[name] for name in _TEXT if name in said)
        except (ValueError, TypeError, StopIteration, RecursionError) as error:
            raise _unlike(file, number) from error
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(image, str) or not _are_texts(texts):
            raise _unlike(file, number)
        yield image, texts


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(text, str) for text in found)


def _unlike(file: Path, number: int) -> DataError:
    return DataError(
        f'{file}, line {number}: must be a JSON object such as {{"image": "a.jpg", "caption": '
        '"a boat"}, with a text or a list of them'
    )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that hold anything, numbered from 1."""
    for number, line in enumerate(_text(file).split("\n"), 1):  # no other end: JSON may hold them
        if line.strip():
            yield number, line


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from error
