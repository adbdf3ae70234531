"""How the time of a step grows with batch, resolution and model, and how near it is to the roof.

    python benchmarks/scaling.py [--mode train] [--dtype float32] [--seconds 4] [--rounds 3]
        [--picture FILE]

Each point is `vit_jax benchmark train` (or infer) in a process of its own, once in each round, of
which the middle one counts: ViT-Ti/16 at 224 px with 1 to 32 images, at 96 to 512 px with 4 images,
and the sizes Ti, S and B at 224 px with 4 images.
To the times of the first two are fitted, by least squares of the relative errors,

  batch       a + b images
  resolution  a + b tokens + c tokens²

with no coefficient below 0, and it is said how far the worst point lies from its fit. The roofline
(Williams, Waterman and Patterson, 2009) sets each program's FLOP/s by formula over its FLOPs a byte
that its operations read and write, by the compiler's count. Its roof is the matrix peak of the runs
and the rate at which this process copies memory.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import machine
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rounds import print_table
from scipy.optimize import nnls

BASE, PATCH, PIXELS, FEW = "ViT-Ti_16", 16, 224, 4
BATCHES = (1, 2, 4, 8, 16, 32)
SIZES = (96, 160, 224, 320, 384, 512)
MODELS = ("ViT-Ti_16", "ViT-S_16", "ViT-B_16")
COPIED = 2**28  # bytes


class Point(NamedTuple):
    """What is measured: a model, a size in pixels, and images a batch."""

    model: str
    pixels: int
    batch: int

    @property
    def tokens(self) -> int:
        """Patches and class token."""
        return (self.pixels // PATCH) ** 2 + 1


Found = dict[Point, dict[str, Any]]
AXES: dict[str, tuple[list[Point], Callable[[Point], float], int]] = {
    # The points, what grows, and up to which power of it the time does.
    "images": ([Point(BASE, PIXELS, n) for n in BATCHES], lambda point: point.batch, 1),
    "tokens": ([Point(BASE, size, FEW) for size in SIZES], lambda point: point.tokens, 2),
}
BY_MODEL = [Point(name, PIXELS, FEW) for name in MODELS]


def main() -> None:
    """Measures all points, prints the tables and draws the picture."""
    options = parse_arguments()
    points = [*(point for listed, _, _ in AXES.values() for point in listed), *BY_MODEL]
    rounds = [
        {point: measure(point, options) for point in dict.fromkeys(points)}
        for _ in range(options.rounds)
    ]
    found = {point: middle([one[point] for one in rounds]) for point in points}
    print(f"{options.mode}, {options.dtype}")
    fits = {name: fit(name, found) for name in AXES}
    for name in AXES:
        report(name, found, fits[name])
    copies = copy_rate()
    roofline(found, copies)
    print(f"\n{machine.line(machine.describe())}")
    if options.picture:
        draw(found, fits, copies, options)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="Times of a step over batch, pixels, model.")
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timed steps a point")
    parser.add_argument("--rounds", type=int, default=1, help="of all points, in turns")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    return parser.parse_args()


def measure(point: Point, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what `vit_jax benchmark` says of one point."""
    print(f"{point.model}, {point.pixels} px, {point.batch} images", file=sys.stderr, flush=True)
    recipe = Path(__file__).with_name("recipe.py")
    command = [sys.executable, "-m", "vit_jax.main", "benchmark", options.mode, "--json"]
    command += [f"--config={recipe}:{point.model},{point.batch},{point.pixels}"]
    command += [f"--config.dtype={options.dtype}", f"--seconds={options.seconds}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def middle(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the one whose step took neither longest nor shortest."""
    return sorted(measured, key=lambda one: one["step_ms"]["median"])[len(measured) // 2]


def milliseconds(found: Found, points: Sequence[Point]) -> np.ndarray:
    """Returns the median step of each point."""
    return np.array([found[point]["step_ms"]["median"] for point in points])


def fit(name: str, found: Found) -> np.ndarray:
    """Returns the coefficients of the powers 0, 1, … that are nearest, by relative errors."""
    points, size, power = AXES[name]
    times = milliseconds(found, points)
    powers = np.array([[size(point) ** i for i in range(power + 1)] for point in points], float)
    return nnls(powers / times[:, None], np.ones(len(points)))[0]


def value(coefficients: np.ndarray, x: float) -> float:
    """Returns the fitted milliseconds."""
    return float(np.polynomial.polynomial.polyval(x, coefficients))


def report(name: str, found: Found, coefficients: np.ndarray) -> None:
    """Prints the times beside the fit."""
    points, size, _ = AXES[name]
    rows, worst = [], 0.0
    for point, own in zip(points, milliseconds(found, points), strict=True):
        off = own / value(coefficients, size(point)) - 1
        worst = max(worst, abs(off))
        rate = found[point]["images_per_second"]
        share = f"{found[point]['fraction_of_peak']:.1%}"
        what = f"{point.pixels} px, {point.batch} images"
        rows.append([what, f"{size(point)}", f"{own:.1f}", f"{off:+.1%}", f"{rate:.1f}", share])
    print()
    headings = (name, "step, ms", "from the fit", "images/s", "of the matrix peak")
    print_table((BASE,), headings, rows)
    terms = [f"{c:.3g}{['', f' {name}', f' {name}²'][i]}" for i, c in enumerate(coefficients)]
    print(f"\nms = {' + '.join(terms)}; the worst point is {worst:.1%} off")


def roofline(found: Found, copies: float) -> None:
    """Prints FLOPs a byte and the share of the peak of each model."""
    rows = []
    for point in BY_MODEL:
        one = found[point]
        reached = one["images_per_second"] * one["flops_per_image"]
        roof = min(one["matmul_flops_per_second"], intensity(one) * copies)
        step = f"{one['step_ms']['median']:.1f}"
        cells = [step, f"{one['images_per_second']:.1f}", f"{intensity(one):.1f}"]
        rows.append(
            [point.model, *cells, f"{one['fraction_of_peak']:.1%}", f"{reached / roof:.1%}"]
        )
    print()
    headings = ("step, ms", "images/s", "FLOP a byte", "of the matrix peak", "of its roof")
    print_table((f"{PIXELS} px, {FEW} images",), headings, rows)
    print(f"\nmemory is copied at {copies / 1e9:.1f} GB/s, read and written")


def intensity(one: dict[str, Any]) -> float:
    """Returns FLOPs, by formula, for a byte that operations read or write; NaN if not counted."""
    return one["flops_per_image"] * one["batch"] / (one["bytes_accessed"] or math.nan)


def copy_rate() -> float:
    """Returns bytes a second, read and written, of adding 1 to a large array: the fastest of 9."""
    large = jnp.zeros(COPIED // 4)
    add = jax.jit(lambda x: x + 1)
    jax.block_until_ready(add(large))
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        jax.block_until_ready(add(large))
        seconds.append(time.perf_counter() - start)
    return 2 * COPIED / min(seconds)


def draw(
    found: Found, fits: dict[str, np.ndarray], copies: float, options: argparse.Namespace
) -> None:
    """Draws the times over images and tokens with their fits, and the roofline."""
    figure = Figure(figsize=(14, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{options.mode}, {options.dtype}, {jax.device_count()} {jax.devices()[0]}")
    *left, right = figure.subplots(1, 3)
    for axes, (name, (points, size, _)) in zip(left, AXES.items(), strict=True):
        x = [size(point) for point in points]
        smooth = np.geomspace(min(x), max(x), 100)
        axes.loglog(smooth, [value(fits[name], n) for n in smooth], label="fit")
        axes.loglog(x, milliseconds(found, points), "o", label="measured")
        axes.set(xlabel={"images": "images a batch", "tokens": "tokens an image"}[name])
        axes.set_ylabel("step (ms)")
        axes.set_title(f"{BASE}: time over {name}")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    draw_roofline(right, found, copies)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture)


def draw_roofline(axes: Any, found: Found, copies: float) -> None:
    """Draws every model's point below the roof."""
    peak = max(one["matmul_flops_per_second"] for one in found.values())
    x = np.geomspace(1, 1000, 100)
    axes.loglog(x, np.minimum(peak, x * copies) / 1e9, color="black", label="roof")
    for point in BY_MODEL:
        one = found[point]
        reached = one["images_per_second"] * one["flops_per_image"] / 1e9
        axes.loglog(intensity(one), reached, "o", label=point.model)
    axes.set(title="Roofline", xlabel="FLOP a byte read or written", ylabel="GFLOP/s")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")


if __name__ == "__main__":
    main()
