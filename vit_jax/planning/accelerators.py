"""What devices can do at most, as their makers publish it.

Sources: for NVIDIA, the data sheets of A100 80GB SXM, H100 SXM and H200 SXM (dense bfloat16; NVLink
in one direction, half of what is printed) and of DGX A100 and DGX H100 (eight GPUs joined by
NVSwitch, and for each GPU a network port of 200 or 400 Gbit/s). For Cloud TPU,
cloud.google.com/tpu/docs, pages v4, v5e and v5p (chip, memory, size of a pod, links, network): a
collective along one axis of a mesh uses one axis of the torus, in both directions, which is a third
(v4, v5p) or half (v5e) of what a chip's links can send.
"""

import dataclasses
import math
import re

from vit_jax.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device and its surroundings; all rates are peaks.

    Attributes:
      name: for the reader.
      flops: floating-point operations a second of bfloat16 matrix products.
      memory: bytes.
      bandwidth: bytes a second, of that memory.
      link: bytes a second that a device sends to those of its domain.
      domain: devices that fast links join.
      network: bytes a second that a device sends beyond them.
      platform: what JAX calls it.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    domain: int
    network: float
    platform: str = "gpu"


ACCELERATORS = {
    found.name: found
    for found in (
        Accelerator("a100", 312e12, 80e9, 2.039e12, 300e9, 8, 25e9),
        Accelerator("h100", 989e12, 80e9, 3.35e12, 450e9, 8, 50e9),
        Accelerator("h200", 989e12, 141e9, 4.8e12, 450e9, 8, 50e9),
        Accelerator("tpu_v4", 275e12, 2.0**35, 1.2e12, 100e9, 4096, 6.25e9, "tpu"),
        Accelerator("tpu_v5e", 197e12, 16e9, 819e9, 100e9, 256, 3.125e9, "tpu"),
        Accelerator("tpu_v5p", 459e12, 95e9, 2.765e12, 200e9, 8960, 6.25e9, "tpu"),
    )
}
FIGURES = ("flops", "memory", "bandwidth", "link", "domain", "network")


def find_accelerator(text: str) -> Accelerator:
    """Returns a known accelerator, or one described as "flops=2e12,memory=64e9,…", by all figures.

    Raises:
      ConfigError: an unknown name, or a description that lacks a figure or has a wrong one.
    """
    if "=" not in text:
        if text not in ACCELERATORS:
            raise ConfigError(
                f"--device={text}: none of {', '.join(ACCELERATORS)}{nearest(text, ACCELERATORS)}; "
                f"or describe it as {','.join(f'{name}=…' for name in FIGURES)}"
            )
        return ACCELERATORS[text]
    said = dict(re.findall(r"(\w+)=([\d.]+(?:e[+-]?\d+)?)(?:,|$)", text))
    if sorted(said) != sorted(FIGURES) or text.count("=") != len(FIGURES):
        raise ConfigError(
            f"--device={text}: must give a number for each of {', '.join(FIGURES)}, and for "
            "nothing else, as in flops=2e12,memory=64e9"
        )
    figures = {name: _figure(text, name, value) for name, value in said.items()}
    domain = figures.pop("domain")
    if not domain.is_integer():
        raise ConfigError(f"--device={text}: domain={domain:g} must be a whole number of devices")
    return Accelerator("described", **figures, domain=int(domain), platform="cpu")


def _figure(text: str, name: str, value: str) -> float:
    """Returns a figure of a description; ConfigError if it is none, or not positive and finite."""
    try:
        figure = float(value)
    except ValueError:  # two points
        figure = math.nan
    if not 0 < figure < math.inf:
        raise ConfigError(f"--device={text}: {name}={value} must be a positive number")
    return figure
