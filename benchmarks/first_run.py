"""The first run that the README offers: how soon it starts, how long it trains, what it scores.

    python benchmarks/first_run.py [--seeds 0 1 2] [--json]

Each seed of `configs/digits.py` is one run of `vit_jax train` in a process of its own. "First step"
is from the start of the process to the first line of metrics.jsonl: imports, data, initialisation
and compilation. "Training" is from that line to the last one, evaluations and saves included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine


def main() -> None:
    """Runs all seeds and prints a table, or JSON."""
    parser = argparse.ArgumentParser(description="The digits recipe, from start to score.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    rows = [run(seed) for seed in options.seeds]
    if options.json:
        print(json.dumps({"machine": machine.describe(), "runs": rows}, indent=2))
        return
    print("| seed | first step, s | training, s | whole process, s | test accuracy |")
    print("| --: | --: | --: | --: | --: |")
    for row in rows:
        print(
            f"| {row['seed']} | {row['first_step']:.1f} | {row['training']:.1f} "
            f"| {row['process']:.1f} | {100 * row['test_accuracy']:.2f} % |"
        )
    print(machine.line(machine.describe()))


def run(seed: int) -> dict[str, Any]:
    """Trains one seed; returns its times in seconds and its score."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "run", "metrics.jsonl")
        command = [sys.executable, "-m", "vit_jax.main", "train", "--config=digits"]
        flags = [
            f"--workdir={metrics.parent}",
            f"--config.seed={seed}",
            "--config.progress_every=1",
        ]
        start = time.perf_counter()
        with subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL) as process:
            while not metrics.exists() and process.poll() is None:
                time.sleep(0.02)
            first = time.perf_counter()
            if process.wait() != 0:
                raise SystemExit(f"vit_jax train ended with {process.returncode}")
        end = time.perf_counter()
        last = json.loads(metrics.read_text().splitlines()[-1])
        trained = metrics.stat().st_mtime - (time.time() - (time.perf_counter() - first))
    return {
        "seed": seed,
        "first_step": first - start,
        "training": trained,
        "process": end - start,
        "test_accuracy": last["test_accuracy"],
    }


if __name__ == "__main__":
    main()
