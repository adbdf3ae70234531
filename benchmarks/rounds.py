"""Sides that take turns, each in a fresh process, and what may be said of their times."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def run_apart(
    script: str,
    name: str,
    options: argparse.Namespace,
    keys: Sequence[str],
    environment: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """Runs `script --side=name` in a fresh process, and returns the JSON of its last line.

    Args:
      script: the file, whose options of the names `keys` are passed on.
      name: of the side.
      options: of the script that runs.
      keys: names of options, underscores for hyphens; None is left out.
      environment: variables, laid over those at hand.
      more: further options.
    """
    flags = {"side": name, **{key: getattr(options, key) for key in keys}, **more}
    given = [
        f"--{key.replace('_', '-')}={value}" for key, value in flags.items() if value is not None
    ]
    print(name, file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, script, *given],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def verdict(own: Sequence[float], base: Sequence[float]) -> str:
    """Returns who is faster by seconds, or "no win" where the ranges over the rounds overlap.

    One round has no range: nothing is said of it.
    """
    if min(len(own), len(base)) < 2:
        return ""
    if max(own) < min(base):
        return "faster"
    return "slower" if min(own) > max(base) else "no win"


def medians_ms(rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Returns, for each side, the median milliseconds of the steps of every round."""
    return {
        name: [1000 * statistics.median(result["steps"]) for result in results]
        for name, results in rounds.items()
    }


def print_table(left: Sequence[str], right: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table: columns of text, then columns of figures."""
    print(f"| {' | '.join([*left, *right])} |")
    print(f"| {' | '.join(['---'] * len(left) + ['--:'] * len(right))} |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
