"""Compiled programs, kept from one process to the next: JAX's persistent compilation cache."""

import contextlib
import hashlib
import logging
import os
import platform
from pathlib import Path

import jax

from vit_jax.runtime.cache import cache_folder

LIMIT = 2**32  # bytes
_MIN_SECONDS = 0.3  # of compilation: less is not worth a file
_DIRECTORY, _ENABLED = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
_PATTERN = "*-cache"  # JAX's names


def enable() -> None:
    """Lets JAX keep what it compiles in the cache folder, so that the next start is quick.

    A folder that the user has chosen stays (`JAX_COMPILATION_CACHE_DIR`), and so does the wish for
    none (`JAX_ENABLE_COMPILATION_CACHE=false`). Programs are kept apart by processor: one of
    another may stand in the same home. What was not used for longest goes first, past `LIMIT`.
    """
    chosen, wanted = (getattr(jax.config, name) for name in (_DIRECTORY, _ENABLED))
    if chosen or not wanted:
        return
    folder = cache_folder() / "compiled" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # it costs time only
        logging.getLogger("vit_jax").info("%s: nothing compiled is kept: %s", folder, error)
        return
    prune(folder, LIMIT)
    jax.config.update(_DIRECTORY, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)


def prune(folder: Path, limit: int) -> None:
    """Deletes programs, the longest unused first, until the others fit in `limit` bytes."""
    found = []
    for file in folder.glob(_PATTERN):
        with contextlib.suppress(OSError):  # another process deletes, too
            status = file.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= limit:
            return
        total -= size
        with contextlib.suppress(OSError):
            file.unlink()


def _processor() -> str:
    """Returns a name for the processor's set of instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    said = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(f"{said}{platform.processor()}".encode()).hexdigest()[:8]
    return f"{platform.machine() or os.name}-{digest}"
