"""What a figure was measured on: processor, accelerators, system, versions, and no hosts' names."""

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Card(NamedTuple):
    """An NVIDIA GPU, described as JAX does."""

    device_kind: str
    platform: str = "gpu"


def cards() -> list[Card]:
    """Returns the NVIDIA GPUs that the driver names, without a byte of their memory."""
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return [Card(name.strip()) for name in done.stdout.splitlines()] if not done.returncode else []


def describe(devices: Sequence[Any] = ()) -> dict[str, str | int]:
    """Returns processor, number of cores, accelerators, system and versions.

    Args:
      devices: of JAX, by whoever computes on them; to ask JAX here would take their memory.
    """
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    kinds = {device.device_kind for device in devices if device.platform != "cpu"}
    beside = {"accelerators": f"{len(devices)} {', '.join(sorted(kinds))}"} if kinds else {}
    return {
        **beside,
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def line(machine: dict[str, str | int]) -> str:
    """Returns the same in one line."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *PACKAGES))
    beside = f"{machine['accelerators']}, " if "accelerators" in machine else ""
    cores = f"{machine['cores']} cores of an {machine['cpu']}"
    return f"{beside}{cores}, {machine['system']}; {versions}"


def _cpu() -> str:
    """Returns the name that the processor gives itself, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_bytes() -> int:
    """Returns the most memory that this process has held so far (resident set)."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
