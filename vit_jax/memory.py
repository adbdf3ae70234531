"""Memory of the devices: how much there is, and what to say where it does not suffice."""

import contextlib
import os
import re
from collections.abc import Iterator

import jax

from vit_jax.config import Config
from vit_jax.errors import ConfigError

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
# A CPU reports memory that ran out of a program in flight as INTERNAL.
_EXHAUSTED = re.compile("RESOURCE_EXHAUSTED|[Oo]ut of memory")
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
