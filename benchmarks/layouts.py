"""One training run in many layouts of processes and devices: the same losses, the same score.

    python benchmarks/layouts.py [--steps 20] [--json]

A small ViT learns the digits on one device, and then on eight: as one process of eight (virtual
CPU) devices, two of four and four of two, joined by JAX's own runtime, with the devices along
`data`, `fsdp` or `tensor`, or two along each. Each row has the largest relative difference of a
step's loss from that of one device, and how many digits of the test split were recognised, at half
of the steps and at the end. Then four runs are stopped at half of their steps and go on in another
layout.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine

PROCESSES = ((1, 8), (2, 4), (4, 2))  # processes, devices of each
MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (1, 1, 8), "all three": (2, 2, 2)}
# Of four runs: the layout of the first half, and of the second.
EXCHANGES = (
    (((2, 4), "fsdp"), ((4, 2), "tensor")),
    (((4, 2), "tensor"), ((1, 1), None)),
    (((1, 1), None), ((2, 4), "all three")),
    (((4, 2), "all three"), ((1, 8), "data")),
)
TEST_DIGITS = 355
SETTINGS = {
    "model.hidden_size": 32,
    "model.transformer.num_layers": 2,
    "model.transformer.num_heads": 8,
    "model.transformer.mlp_dim": 64,
    "batch": 64,
    "warmup_steps": 5,
    "progress_every": 1,
    "keep_checkpoints": 2,
}

Layout = tuple[tuple[int, int], str | None]
Lines = list[dict[str, Any]]


def main() -> None:
    """Runs all layouts and prints a table, or JSON."""
    parser = argparse.ArgumentParser(description="One run in many layouts.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        alone = train(place / "alone", ((1, 1), None), options.steps)
        layouts: list[Layout] = [(count, mesh) for mesh in MESHES for count in PROCESSES]
        rows = [
            row(name(one), train(place / name(one), one, options.steps), alone) for one in layouts
        ]
        for before, after in EXCHANGES:
            lines = exchanged(place, before, after, options.steps)
            rows.append(row(f"{name(before)}, then {name(after)}", lines, alone))
    if options.json:
        print(json.dumps({"machine": machine.describe(), "rows": rows}, indent=2))
        return
    print(f"one device: {recognised(alone)} of {TEST_DIGITS} digits")
    print("| layout | largest difference of a loss | of a gradient's norm | digits |")
    print("| --- | --: | --: | --: |")
    for one in rows:
        print(f"| {one['layout']} | {one['loss']:.1e} | {one['grad_norm']:.1e} | {one['digits']} |")
    print(machine.line(machine.describe()))


def name(layout: Layout) -> str:
    """Returns what a layout is called."""
    (processes, devices), mesh = layout
    return f"{processes} x {devices}, {mesh}" if mesh else "one device"


def row(layout: str, lines: Lines, alone: Lines) -> dict[str, Any]:
    """Compares the lines of metrics of two runs."""
    found: dict[str, Any] = {"layout": layout, "digits": recognised(lines)}
    print(f"{layout}: {found['digits']}", file=sys.stderr)
    for what in ("loss", "grad_norm"):
        pairs = zip(values(lines, what), values(alone, what), strict=True)
        found[what] = max(abs(a / b - 1) for a, b in pairs)
    return found


def values(lines: Lines, what: str) -> list[float]:
    """Returns a metric of every step."""
    return [line[what] for line in lines if what in line]


def recognised(lines: Lines) -> list[int]:
    """Returns the digits of the test split that were recognised at each evaluation."""
    return [round(TEST_DIGITS * accuracy) for accuracy in values(lines, "test_accuracy")]


def train(workdir: Path, layout: Layout, steps: int) -> Lines:
    """Trains, or goes on, in a layout; returns the lines of metrics."""
    (processes, devices), mesh = layout
    sizes = MESHES[mesh] if mesh else (1, 1, 1)
    settings = SETTINGS | dict(zip(("mesh.data", "mesh.fsdp", "mesh.tensor"), sizes, strict=True))
    settings |= {"total_steps": steps, "eval_every": steps // 2, "checkpoint_every": steps // 2}
    command = [sys.executable, "-m", "vit_jax.main", "train", "--config=digits"]
    command += [
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in settings.items()),
    ]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = []
    for index in range(processes):
        place = [
            f"--coordinator=127.0.0.1:{port}",
            f"--processes={processes}",
            f"--process={index}",
        ]
        started.append(
            subprocess.Popen(
                command + (place if processes > 1 else []),
                env=os.environ
                | {
                    "JAX_PLATFORMS": "cpu",
                    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                },
                stdout=subprocess.DEVNULL,
            )
        )
    try:
        codes = [one.wait(600) for one in started]
    finally:
        for one in started:
            one.kill()
    if any(codes):
        raise SystemExit(f"{name(layout)}: vit_jax train ended with {codes}")
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def exchanged(place: Path, before: Layout, after: Layout, steps: int) -> Lines:
    """Returns the metrics of a run that goes on in another layout from half of its steps."""
    source = place / (name(before) if before[1] else "alone")
    target = place / f"{name(before)} then {name(after)}"
    shutil.copytree(source, target)
    shutil.rmtree(target / "checkpoints" / str(steps))  # as if it had been killed before
    (target / "config.json").unlink()
    return train(target, after, steps)


if __name__ == "__main__":
    main()
