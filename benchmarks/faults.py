"""Runs killed at random moments and at named points, and gone on with: what is lost, and how soon.

    python benchmarks/faults.py [--kills 100] [--seed 0] [--record FILE]

Each start is a process of its own, `vit_jax train` on the digits with a tiny model (see
`tests/faults/kills.py`), killed with SIGKILL at a moment drawn from the seed, or in the n-th call
of a function where a kill could hurt. A run is killed up to ten times before it may end; then its
last state and its metrics are compared, bit for bit, with those of a run that was left alone.
`--record` writes a line of JSON for each start.
"""

import argparse
import collections
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import machine

sys.path.append(str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Injects the faults and prints what became of the runs."""
    parser = argparse.ArgumentParser(description="Kills runs, and goes on with them.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="file for a line of JSON for each start")
    options = parser.parse_args()

    def tell(start: Any) -> None:
        line = json.dumps(_record(start))
        print(line, file=sys.stderr, flush=True)
        if options.record is not None:
            with options.record.open("a") as file:
                file.write(line + "\n")

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VIT_JAX_AS_SHIPPED"] = "1"  # programs are compiled as they are for users
        from tests.faults import kills

        random = Random(options.seed)
        starts, differing = kills.inject(Path(folder), options.kills, random, tell)
    _print(starts, differing)
    print(f"\nseed {options.seed}, {(time.perf_counter() - began) / 60:.0f} min")
    print(machine.line(machine.describe()))


def _record(start: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(start)
    del fields["output"]
    return {**fields, "lost": start.lost}


def _print(starts: list[Any], differing: list[list[str]]) -> None:
    kinds: dict[str, list[Any]] = collections.defaultdict(list)
    for start in starts:
        if start.killed:
            kinds[start.fault.split(":")[0]].append(start)
    print("| killed at | kills | saved steps lost |")
    print("| --- | --: | --: |")
    for kind, group in sorted(kinds.items()):
        print(f"| {kind} | {len(group)} | {sum(start.lost for start in group)} |")
    print(f"| all | {sum(map(len, kinds.values()))} | {sum(start.lost for start in starts)} |")
    print(f"\nruns that ended: {len(differing)}; with other bits: {sum(map(bool, differing))}")
    again = [start.seconds for start in starts if start.resumed and start.seconds is not None]
    print(
        f"from the command to the first new step: median {statistics.median(again):.1f} s, "
        f"{min(again):.1f} to {max(again):.1f}, of {len(again)} starts"
    )


if __name__ == "__main__":
    main()
