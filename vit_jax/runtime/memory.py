"""Memory of the devices: how much there is, and what to say where it does not suffice."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from vit_jax.config import Config
from vit_jax.errors import ConfigError

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
# A CPU reports memory that ran out of a program in flight as INTERNAL.
_EXHAUSTED = re.compile("RESOURCE_EXHAUSTED|[Oo]ut of memory")
# Of both versions of control groups: line in /proc, folder, and files with limit and usage.
_GROUPS = (
    ("0:", "", "memory.max", "memory.current"),
    (r"\d+:memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CACHED = re.compile(r"^(?:total_)?inactive_file (\d+)", re.MULTILINE)
_ASKED = re.compile(r"allocat\w*\s+([\d.]+)\s?([KMGT]i?B|bytes)")


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turns memory that ran out inside, on a device or on the host, into one line.

    Args:
      what: took the memory.
      remedy: the setting to change.

    Raises:
      ConfigError: with what was asked for, where the runtime says it, and what there is.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and not _EXHAUSTED.search(str(error)):
            raise
        raise ConfigError(
            f"out of memory: {what} {_asked(str(error))}, and {_there_is()}; {remedy}"
        ) from error


def for_training(config: Config) -> contextlib.AbstractContextManager[None]:
    """Returns `explained` for training steps of a config."""
    return explained(
        f"training with config.batch={config.batch} at config.pp.crop={config.pp.crop}",
        f"halve config.batch, or double config.accum_steps={config.accum_steps} and keep the batch",
    )


def for_evaluation(config: Config) -> contextlib.AbstractContextManager[None]:
    """Returns `explained` for the evaluation of a config."""
    return explained(
        f"evaluation with config.batch_eval={config.batch_eval} at config.pp.crop={config.pp.crop}",
        "halve config.batch_eval, which changes no score",
    )


def shown(count: int | float) -> str:
    """Returns bytes as people read them: "17.2 GB", "84.3 MB", "0.6 kB"."""
    unit, size = next((u, s) for u, s in _UNITS if count >= s or s == 1e3)
    return f"{count / size:,.1f} {unit}"


def peak_bytes() -> int | None:
    """Returns the most that any device of this process has held so far; None where none counts."""
    counted = (device.memory_stats() or {} for device in jax.local_devices())
    return max((stats.get("peak_bytes_in_use", 0) for stats in counted), default=0) or None


def bytes_of_program(compiled: Any) -> int:
    """Returns the memory of one device that a compiled program needs; donated counts once."""
    use = compiled.memory_analysis()
    held = use.argument_size_in_bytes + use.output_size_in_bytes - use.alias_size_in_bytes
    return held + use.temp_size_in_bytes + use.generated_code_size_in_bytes


def free_bytes() -> int | None:
    """Returns what the device of this process with the least left has left; None if not known.

    Devices that are a CPU share what the host can still give.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        free = host_free_bytes()
        return None if free is None else free // len(devices)
    counted = (device.memory_stats() or {} for device in devices)
    left = (s["bytes_limit"] - s.get("bytes_in_use", 0) for s in counted if "bytes_limit" in s)
    return min(left, default=None)


def check_room(needed: int, what: str, remedy: str) -> None:
    """Raises ConfigError if no device has so many bytes left, as far as that is known.

    A CPU whose memory runs out is otherwise ended by the system, without a word.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise ConfigError(
            f"out of memory: {what} takes {shown(needed)} of a device, and {shown(free)} are left; "
            f"{remedy}"
        )


def host_free_bytes(root: Path = Path("/")) -> int | None:
    """Returns the memory that the host can still give, or its container; None if not known.

    Where only the whole is known, as outside of Linux, that is taken.

    Args:
      root: of the file system with /proc and /sys in it.
    """
    left = [_available(root / "proc/meminfo"), _container_left(root)]
    known = [size for size in left if size is not None]
    if not known and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(known, default=None)


def _available(meminfo: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(meminfo), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _container_left(root: Path) -> int | None:
    """Returns what the limits of control groups leave; the cache of files does not count as used.

    /proc names the group of this process; in a container it is the top one that is seen.
    """
    own, top, left = _read(root / "proc/self/cgroup"), root / "sys/fs/cgroup", []
    for mark, base, limit, usage in _GROUPS:
        named = re.search(rf"^{mark}:/(.*)$", own, flags=re.MULTILINE)
        for folder in {top / base, top / base / (named[1] if named else "")}:
            texts = _read(folder / limit).strip(), _read(folder / usage).strip()
            if all(text.isdecimal() for text in texts):  # without a limit it says "max"
                cached = _CACHED.search(_read(folder / "memory.stat"))
                left.append(int(texts[0]) - int(texts[1]) + int(cached[1] if cached else 0))
    return min(left, default=None)


def _read(file: Path) -> str:
    """Returns the text of a file; "" where there is none to be read."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _asked(message: str) -> str:
    """Returns the request that failed, in words."""
    found = _ASKED.search(message)
    if found is None:
        return "did not fit"
    number, unit = found.groups()
    return f"asked for {shown(float(number)) if unit == 'bytes' else f'{number} {unit}'} more"


def _there_is() -> str:
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu" and hasattr(os, "sysconf"):
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limit is None:
        return f"how much {device.device_kind} has is not known"
    return f"{device.device_kind} has {shown(limit)} in all"
