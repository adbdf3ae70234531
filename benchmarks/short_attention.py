"""Attention of at most 256 tokens: a kernel of our own beside those of the models.

    python benchmarks/short_attention.py [--tokens 197] [--images 256] [--heads 12] [--json]

It needs an NVIDIA Hopper GPU (H100, H200). Measured are the plain products of XLA, cuDNN's fused
kernel, and `kernels/hopper.py` with one warpgroup for a head and with two: the forward pass, that
and the gradients of query, key and value, and the error of each, against float64. A kernel that
fails does not stop the others; JSON names it, and why. Ours is no setting of the models: it would
have to be faster here first.
"""

import argparse
import dataclasses
import functools
import json
import sys

import jax
import jax.numpy as jnp
import machine
from kernels.hopper import MOST_TOKENS, WIDTH, short_attention

from vit_jax.benchmark import attention
from vit_jax.runtime import gpu

HOPPER = 9.0  # compute capability; the ones after it have other instructions for products
CANDIDATES = {
    **attention.FUNCTIONS,  # first: after some errors a process can use its GPU no more
    "hopper, 2 warpgroups": short_attention,
    "hopper, 1 warpgroup": functools.partial(short_attention, warpgroups=1),
}


def main() -> None:
    """Measures every kernel, and prints the table or JSON."""
    options = parse_arguments()
    capability = gpu.compute_capability()
    if capability != HOPPER:
        has = jax.default_backend() if capability is None else f"compute capability {capability}"
        print(f"needs an NVIDIA GPU of compute capability {HOPPER}, not {has}", file=sys.stderr)
        sys.exit(2)
    shape = options.images, options.tokens, options.heads, WIDTH
    qkv, cotangent = attention.random_arrays(shape, jnp.dtype(jnp.bfloat16))
    exact = attention.exact_attention(qkv, cotangent)
    speeds, failed = {}, {}
    for name, function in CANDIDATES.items():
        print(name, file=sys.stderr, flush=True)  # the last one, if it does not end
        try:
            speeds[name] = attention.kernel_speed(function, qkv, cotangent, exact, options.seconds)
        except Exception as error:  # whatever a compiler or a driver may say
            failed[name] = f"{type(error).__name__}: {error}"
    here = machine.describe(jax.devices())
    if options.json:
        kernels = {name: dataclasses.asdict(speed) for name, speed in speeds.items()}
        asked = {key: getattr(options, key) for key in ("tokens", "images", "heads")}
        print(json.dumps(asked | {"machine": here, "kernels": kernels, "failed": failed}, indent=2))
        return
    print(
        f"{options.images} images, {options.tokens} tokens, {options.heads} heads of {WIDTH}, "
        "bfloat16: milliseconds, and the largest relative difference from float64"
    )
    attention.print_kernels(speeds)
    for name, why in failed.items():
        print(f"{name} failed: {why}")
    print(machine.line(here))


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="Attention of few tokens, kernel by kernel.")
    parser.add_argument("--tokens", type=int, default=197, help=f"of an image, to {MOST_TOKENS}")
    parser.add_argument("--images", type=int, default=256, help="at once")
    parser.add_argument("--heads", type=int, default=12, help=f"of width {WIDTH}")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    if not 0 < options.tokens <= MOST_TOKENS:
        parser.error(f"--tokens={options.tokens}: must be from 1 to {MOST_TOKENS}")
    return options


if __name__ == "__main__":
    main()
