"""What a file of weights is, by its content; and for what is not read, what to do instead."""

import json
from pathlib import Path
from typing import Literal

from vit_jax.errors import CheckpointError, ConfigError, nearest

Kind = Literal["npz", "safetensors", "index"]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
NPZ = "model.npz"

# The formats that are written.
FORMATS = ("official", "timm", "transformers", "big_vision")

# Given whole, so that it can be pasted; weights_only keeps PyTorch from running code.
_TO_SAFETENSORS = (
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    "save_file(torch.load(sys.argv[1], map_location='cpu', weights_only=True), sys.argv[2])\" "
    "FILE model.safetensors"
)
PICKLE = (
    "is a pickle, as PyTorch writes, and reading one can run any code in it; use the safetensors "
    f"file of the same repository, or where you trust it convert it: {_TO_SAFETENSORS}"
)
_TENSORFLOW = (
    "is a TensorFlow checkpoint, which is not read; use the .npz or safetensors file of the same "
    "weights, or save its arrays with numpy.savez"
)
_WEB = "is a web page saved in place of the weights; download the file itself, and look at the URL"
_BUCKET = (
    "is an XML answer of a storage bucket, most often that access is denied; download the file "
    "from another source"
)

# How a file begins, and what it then is. Text is compared in lower case, without leading spaces.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"<?xml", _BUCKET),
    (b"<error>", _BUCKET),
    (
        b"version https://git-lfs",
        "is a git-lfs pointer, not the weights; run git lfs pull where it was cloned, or download "
        "the file",
    ),
    (
        b"\x89hdf\r\n",
        "is an HDF5 file, which is not read; use the safetensors file of the same repository, or "
        "save its arrays with numpy.savez",
    ),
    (b"\x93numpy", "is a single .npy array without a name; save the weights with numpy.savez"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"model_checkpoint_path:", _TENSORFLOW),
)

_BLANKS = b"\xef\xbb\xbf \t\r\n"  # and the mark of UTF-8

# What an ending says where the content says nothing.
_ENDINGS = {
    ".index": _TENSORFLOW,
    ".meta": _TENSORFLOW,
    ".pb": _TENSORFLOW,
    ".bin": PICKLE,
    ".pt": PICKLE,
    ".pth": PICKLE,
    ".ckpt": PICKLE,
    ".pkl": PICKLE,
    ".msgpack": "is a msgpack file, which is not read; use the safetensors file of the same "
    "repository",
}


def locate(path: str | Path) -> tuple[Path, Kind]:
    """Returns the file of weights that `path` means, and what kind of file it is.

    Args:
      path: an npz or safetensors file of any name, the index of a sharded safetensors model, or
          a folder with model.safetensors or that index.

    Raises:
      CheckpointError: there is no such file, it cannot be read, or it is of another kind; then
          it says which, and what to do.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    return path, _recognise(path)


def is_web_page(beginning: bytes) -> bool:
    """Returns whether a file that begins so is HTML."""
    return beginning.lstrip(_BLANKS).lower().startswith((b"<!doctype html", b"<html"))


def _in_folder(folder: Path) -> Path:
    for name in (INDEX, SINGLE):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: is a folder without {SINGLE} or {INDEX}; name the file of weights in it"
    )


def _recognise(path: Path) -> Kind:
    beginning = _beginning(path)
    if not beginning:
        raise CheckpointError(f"{path}: is empty; download or copy it again")
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    if beginning[8:9] == b"{" and path.suffix != ".json":
        return "safetensors"
    if beginning.lstrip().startswith(b"{") and path.name.endswith(".index.json"):
        return "index"
    raise CheckpointError(f"{path}: {_why_not(path, beginning)}")


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except FileNotFoundError:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        raise CheckpointError(f"{path}: there is no such file of weights{near}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read ({reason})") from error


def _why_not(path: Path, beginning: bytes) -> str:
    if is_web_page(beginning):
        return _WEB
    text = beginning.lower()
    for start, reason in _BEGINNINGS:
        if text.startswith(start) or text.lstrip(_BLANKS).startswith(start):
            return reason
    if ".data-0" in path.name:
        return _TENSORFLOW
    return _ENDINGS.get(
        path.suffix.lower(),
        f"is neither an npz nor a safetensors file (it begins with "
        f"{json.dumps(beginning[:16].decode('latin-1'))}); give one of these",
    )


def check_format(name: str) -> None:
    """Raises `ConfigError` unless `name` is one of `FORMATS`."""
    if name not in FORMATS:
        raise ConfigError(
            f"format {name!r} is none of {', '.join(FORMATS)}{nearest(name, FORMATS)}"
        )
