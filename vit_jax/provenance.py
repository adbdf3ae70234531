"""Where the numbers of a checkpoint come from: versions and devices, to compare at resume."""

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from vit_jax.config import Config, to_json

# What may change the last bits of a step.
_PACKAGES = ("vit_jax", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def provenance(config: Config, mesh: Mesh) -> dict[str, Any]:
    """Returns what a checkpoint says of the code and the devices that made it."""
    return {
        "config_sha256": hashlib.sha256(to_json(config).encode()).hexdigest(),
        "versions": versions(),
        "topology": topology(mesh),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Returns {package: version}, and that of Python; a package without metadata is left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
            continue
    return found


def topology(mesh: Mesh) -> dict[str, Any]:
    """Returns processes, devices and how the mesh divides them."""
    return {
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
        **{f"mesh.{axis}": size for axis, size in mesh.shape.items()},
    }


def changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns "what old -> new" for each version and each figure of the topology that differs.

    What a checkpoint of an earlier version did not note is not compared.
    """
    found = []
    for part in ("versions", "topology"):
        old, new = saved.get(part, {}), now[part]
        found += [
            f"{name} {old[name]} -> {new.get(name)}" for name in old if old[name] != new.get(name)
        ]
    return found
