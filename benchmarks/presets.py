"""Parameters, operations and CPU forward time of every named model.

    python benchmarks/presets.py [--size 224] [--memory 8] [--json]

GFLOP are those of one image by formula (2 for each multiplication). `compiled` is what the
compiled program counts, over that formula and the one for norms, softmax and other operations on
single elements. The time is the median of some float32 forward passes of one image, each
model in a process of its own, compilation apart; models whose program would take more than
--memory GiB are described by their shapes alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import machine

from vit_jax.models import create_model, list_models
from vit_jax.models.summary import compiled_flops, summarize

PASSES = 5


def main() -> None:
    """Measures every model, or, as a process of one, that one."""
    parser = argparse.ArgumentParser(description="Every named model's size and forward time.")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--memory", type=float, default=8, help="GiB that a model may take")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--model", choices=list_models(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        print(json.dumps(describe(options.model, options.size, options.memory)))
        return
    rows = [run_apart(name, options) for name in list_models()]
    if options.json:
        print(json.dumps({"machine": machine.describe(), "models": rows}, indent=2))
        return
    print(f"{options.size} px, float32, one image")
    print("| model | parameters, M | GFLOP | compiled | forward, ms | compilation, s |")
    print("| --- | --: | --: | --: | --: | --: |")
    for row in rows:
        counted = row["compiled"] / (row["flops"] + row["elementwise"]) - 1
        print(
            f"| {row['model']} | {row['params'] / 1e6:.2f} | {row['flops'] / 1e9:.2f} "
            f"| {counted:+.1%} | {shown(row['forward_s'], 1000, 0)} "
            f"| {shown(row['compile_s'], 1, 1)} |"
        )
    print(machine.line(machine.describe()))


def shown(seconds: float | None, scale: float, digits: int) -> str:
    """Returns the number, or a dash where there is none."""
    return "–" if seconds is None else f"{scale * seconds:.{digits}f}"


def run_apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Describes a model in a fresh process on the CPU."""
    print(name, file=sys.stderr)
    flags = [f"--model={name}", f"--size={options.size}", f"--memory={options.memory}"]
    done = subprocess.run(
        [sys.executable, __file__, *flags],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def describe(name: str, size: int, memory: float) -> dict[str, Any]:
    """Returns the figures of one model."""
    model = create_model(name)
    summary = summarize(model, (size, size))
    row = {
        "model": name,
        "params": summary.params,
        "flops": summary.flops,
        "elementwise": summary.elementwise,
        "compiled": compiled_flops(model, (size, size)),
        "forward_s": None,
        "compile_s": None,
    }
    images = jnp.zeros((1, size, size, 3))
    abstract = jax.eval_shape(model.init, jax.random.key(0), images)
    start = time.perf_counter()
    program = jax.jit(model.apply).lower(abstract, images).compile()
    row["compile_s"] = time.perf_counter() - start
    found = program.memory_analysis()
    if not found or found.temp_size_in_bytes + found.argument_size_in_bytes > memory * 2**30:
        return row
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), abstract)
    seconds = []
    for _ in range(PASSES + 1):
        start = time.perf_counter()
        jax.block_until_ready(program(variables, images))
        seconds.append(time.perf_counter() - start)
    return row | {"forward_s": statistics.median(seconds[1:])}


if __name__ == "__main__":
    main()
