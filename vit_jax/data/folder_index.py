"""The image files of a folder, listed once: the next start only asks which directories changed."""

import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from vit_jax.errors import DataError
from vit_jax.runtime import cache

logger = logging.getLogger("vit_jax")

HEIF = (".avif", ".heic", ".heif")  # read or not: a class of them must not vanish unsaid
EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"),
        *HEIF,
    }
)
# What often lies between images, and need not be opened to see that it is none.
_OTHERS = frozenset(
    ".txt .md .csv .tsv .json .jsonl .xml .yaml .yml .html .py .log .db .ini .mat .npy .npz .pkl "
    ".parquet .pdf .zip .tar .gz .tgz .7z .mp4 .avi .mov .svg".split()
)
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis")  # brands of photographs

_VERSION = 3  # 2 was kept where links led nowhere
# File systems tell times apart by up to two seconds: a directory that changed so shortly before it
# was listed may change again and show no other time, so that its list is not worth keeping.
_SETTLED_NS = 2 * 10**9

Stamp = tuple[int, int]  # when the content of a directory changed, and its entry: ns since 1970


@dataclasses.dataclass(frozen=True)
class FolderIndex:
    """The image files below a folder.

    Attributes:
      root: the folder.
      files: {directory, relative to the root, "" for the root itself: names of its image files},
        both in order; directories without images are there too.
    """

    root: Path
    files: Mapping[str, tuple[str, ...]]

    def folders(self, directory: str = "") -> list[str]:
        """Returns the names of the folders inside a directory, sorted."""
        return list(dict.fromkeys(child for child, _ in self._inside(directory)))

    def images(self, directory: str = "") -> dict[str, list[str]]:
        """Returns {folder inside a directory: paths, from the root, of the images at any depth}."""
        found: dict[str, list[str]] = {}
        for child, path in self._inside(directory):
            found.setdefault(child, []).extend(f"{path}/{name}" for name in self.files[path])
        return found

    def loose(self, directory: str = "") -> list[str]:
        """Returns the paths, from the root, of the images that lie in a directory itself."""
        prefix = directory and f"{directory}/"
        return [prefix + name for name in self.files.get(directory, ())]

    def _inside(self, directory: str) -> Iterator[tuple[str, str]]:
        """Yields (folder, directory at or below it) for all that lies in a directory."""
        prefix = directory and f"{directory}/"
        for path in self.files:
            if path.startswith(prefix) and path != directory:
                yield path[len(prefix) :].split("/", 1)[0], path


def index_folder(root: Path) -> FolderIndex:
    """Lists the image files of a folder, or takes the list made before if nothing changed since.

    Files count as images by their extension; where that is unknown, by their first bytes. Hidden
    ones and the clutter of file managers do not count. Links to directories are followed. Where
    links lead nowhere, as to a disk that is not mounted yet, a warning says so, and the list is not
    kept: what they lead to may appear without a change of the directory that they lie in.

    Raises:
      DataError: a directory cannot be read.
    """
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    name = f"folders/{key}.json"
    known = cache.read_json(name)
    if isinstance(known, dict) and known.get("version") == _VERSION and _is_current(root, known):
        return FolderIndex(root, {path: tuple(names) for path, _, names in known["directories"]})
    started, broken = time.time_ns(), []
    listed = sorted(_listed(root, broken), key=lambda item: item[0].split("/"))
    if broken:
        logger.warning(
            "%s: %d links lead nowhere, such as %s: what they should lead to is left out",
            *(root, len(broken), min(broken)),
        )
    elif all(max(stamp) < started - _SETTLED_NS for _, stamp, _ in listed):
        cache.write_json(name, {"version": _VERSION, "root": str(root), "directories": listed})
    return FolderIndex(root, {path: names for path, _, names in listed})


def _is_current(root: Path, known: Mapping) -> bool:
    """Returns whether no directory has gained, lost or renamed an entry since it was listed."""
    try:
        return all(
            _stamp(os.stat(root / path)) == tuple(at) for path, at, _ in known["directories"]
        )
    except (OSError, ValueError, TypeError, KeyError):  # gone, or not a list of ours
        return False


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_ctime_ns


def _listed(root: Path, broken: list[str]) -> Iterator[tuple[str, Stamp, tuple[str, ...]]]:
    """Yields (directory, stamp, names of its images) for a folder and all below it.

    Paths of links that lead nowhere are added to `broken`.
    """
    waiting: list[tuple[str, frozenset]] = [("", frozenset())]
    while waiting:
        path, above = waiting.pop()
        try:
            # The time first: what changes while the directory is read then shows.
            status = os.stat(root / path)
            here = (status.st_dev, status.st_ino)
            if here in above:  # a link that leads back to where it lies
                continue
            with os.scandir(root / path) as entries:
                seen = [entry for entry in entries if not _is_clutter(entry.name)]
            folders = [entry.name for entry in seen if entry.is_dir()]
            names = sorted(entry.name for entry in seen if _is_image(entry))
            broken += [entry.path for entry in seen if _is_broken(entry)]
        except OSError as error:
            where = error.filename or root / path
            raise DataError(f"{where}: cannot be read: {error.strerror}") from error
        yield path, _stamp(status), tuple(names)
        prefix = path and f"{path}/"
        waiting += [(prefix + folder, above | {here}) for folder in folders]


def _is_clutter(name: str) -> bool:
    return name[0] == "." or name.lower() in _CLUTTER


def _is_broken(entry: os.DirEntry) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _is_image(entry: os.DirEntry) -> bool:
    """Tells by the extension, and only where that is unknown by opening the file."""
    extension = os.path.splitext(entry.name)[1].lower()
    if extension in _OTHERS or not entry.is_file():
        return False
    if extension in EXTENSIONS:
        return True
    with open(entry.path, "rb") as file:
        return is_image(file.read(12))


def is_image(start: bytes) -> bool:
    """Returns whether a file that begins with these 12 bytes is an image of a known format."""
    if start.startswith((b"RIFF", b"BM")):
        return start[8:12] == b"WEBP" or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0")
    return start.startswith(_MAGIC) or is_heif(start)


def is_heif(start: bytes) -> bool:
    """Returns whether a file that begins so is HEIC, as telephones write it, or AVIF."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF
