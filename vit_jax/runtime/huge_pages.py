"""Memory in huge pages: on a CPU, a training step is a quarter faster."""

import os
import platform
import sys
from pathlib import Path

_VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_FIRST_WITH_IT = (2, 35)  # glibc's version


def ask() -> None:
    """Starts this program again in its own place, once, if Linux then gives it huge pages.

    XLA's programs take their temporary memory anew at every call, and on a CPU the kernel clears it
    page by page: 268,000 of 4 KiB in a step of ViT-Ti/16 with 16 images, where 1,200 of 2 MiB do
    (benchmarks/LOG.md). glibc's malloc asks for these if told so when a program starts, not later.
    What `GLIBC_TUNABLES` says already stands: `glibc.malloc.hugetlb=0` is for none.
    """
    mode = _MODE.read_text() if _MODE.exists() else ""
    wish = tunables(os.environ.get(_VARIABLE, ""), mode, platform.libc_ver())
    if wish is not None and sys.executable:
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, _VARIABLE: wish})


def tunables(said: str, mode: str, libc: tuple[str, str]) -> str | None:
    """Returns what `GLIBC_TUNABLES` is to say; None where it may stay as it is.

    Args:
      said: what it says.
      mode: the kernel's modes of huge pages, the one in force in brackets: only with "[madvise]"
        does anything depend on the wish.
      libc: name and version of the C library.
    """
    name, version = libc
    too_old = name != "glibc" or tuple(map(int, version.split(".")[:2])) < _FIRST_WITH_IT
    if too_old or "[madvise]" not in mode or _TUNABLE in said:
        return None
    return ":".join(filter(None, (said, f"{_TUNABLE}=1")))
