"""Sides that take turns, each in a fresh process, and what may be said of their times."""

import argparse
import collections
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

ENOUGH = 3  # rounds: of fewer no range is known
_ERROR = re.compile(r"[\w.]*(Error|Exception|Failed)\w*: ")  # as a traceback ends, before its notes


class Failed(Exception):
    """A side that ended without a result; says why, in one line."""


class Taken(NamedTuple):
    """What the sides gave, by their names: a result for every round, or why there are no more."""

    rounds: dict[str, list[dict[str, Any]]]
    failed: dict[str, str]


def take_turns(
    taken: Taken,
    count: int,
    run: Callable[[str], dict[str, Any]],
    keep: Callable[[Taken], None],
) -> None:
    """Runs all sides, so many rounds; one that fails is not run again, and the others go on.

    Args:
      taken: the sides, with the rounds that they have already; is filled.
      count: rounds.
      run: returns a side's result, or raises `Failed`.
      keep: is given all there is after every run, so that nothing is lost if this process ends.
    """
    for done in range(count):
        for name, results in taken.rounds.items():
            if name in taken.failed or len(results) > done:
                continue
            try:
                results.append(run(name))
            except Failed as error:
                taken.failed[name] = str(error)
            keep(taken)


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

    Raises:
      Failed: the process ended with an error; its messages are among those of this one.
    """
    flags = {"side": name, **{key: getattr(options, key) for key in keys}, **more}
    given = [
        f"--{key.replace('_', '-')}={value}" for key, value in flags.items() if value is not None
    ]
    print(name, file=sys.stderr, flush=True)
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            [sys.executable, script, *given],
            env={**os.environ, **environment},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stderr is not None
        said = collections.deque(maxlen=1000)
        for text in process.stderr:
            sys.stderr.write(text)
            said.append(text.rstrip())
        code = process.wait()
        out.seek(0)
        printed = out.read().splitlines()
    if code or not printed:
        raise Failed(_reason(code, said))
    return json.loads(printed[-1])


def _reason(code: int, said: Iterable[str]) -> str:
    """Returns the last line of an error; a traceback may have notes after it."""
    if code < 0:
        return f"ended by signal {-code}"
    lines = [text for text in said if text]
    errors = [text for text in lines if _ERROR.match(text)]
    return [f"exit status {code}", *lines, *errors][-1]


def verdict(own: Sequence[float], base: Sequence[float]) -> str:
    """Returns who is faster by seconds, or "no win" where the ranges over the rounds overlap.

    Fewer than three rounds have no range to speak of, and it says so.
    """
    count = min(len(own), len(base))
    if not count:
        return "missing"
    if count < ENOUGH:
        return f"{count} {'round' if count == 1 else 'rounds'}: no verdict"
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
