"""The cache folder: what can be found out again, kept so that the next start is quick.

`VIT_JAX_CACHE`, else `$XDG_CACHE_HOME/vit_jax`, else `~/.cache/vit_jax`. It may be deleted at any
time, and a folder that cannot be written costs time only.
"""

import contextlib
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER_VARIABLE = "VIT_JAX_CACHE"


def cache_folder() -> Path:
    """Returns the cache folder, which need not exist."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vit_jax"


def read_json(name: str) -> Any:
    """Returns what `write_json` stored under a name; None if nothing whole is there."""
    try:
        return json.loads((cache_folder() / name).read_bytes())
    except (OSError, ValueError):
        return None


def write_json(name: str, content: Any) -> None:
    """Stores JSON under a name such as "folders/ab12.json", whole or not at all."""
    _write(name, json.dumps(content, separators=(",", ":")).encode())


def read_arrays(name: str) -> dict[str, np.ndarray] | None:
    """Returns what `write_arrays` stored under a name; None if nothing whole is there."""
    try:
        with np.load(cache_folder() / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def write_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores arrays under a name such as "embeddings/ab12.npz", whole or not at all."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    _write(name, file.getvalue())


def _write(name: str, content: bytes) -> None:
    path = cache_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(partial).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise
    except OSError as error:
        logging.getLogger("vit_jax").info("%s: not cached: %s", path, error.strerror)
