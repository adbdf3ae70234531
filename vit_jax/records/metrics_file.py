"""`metrics.jsonl`: what a run measured, each step once, whatever happens to the run or the disk."""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax.checkpoints.atomic import replacing
from vit_jax.checkpoints.integrity import sync
from vit_jax.errors import CheckpointError
from vit_jax.records.trackers import Tracker

logger = logging.getLogger("vit_jax")

Record = dict[str, Any]

# The one entry of a line of metrics.jsonl that may differ between two runs of the same config.
TIMING = "timing"
_TEST = "test_"  # what each score of the test split begins with


class MetricsFile:
    """One JSON object a line: `step`, numbers, and `timing` for what depends on the machine.

    A line that cannot be written (a full disk) is said to be, and waits for the next one. The lines
    that wait belong into the checkpoint: a run that goes on from there has them.

    Args:
      path: the file, made when the first line is written; None writes nothing, which is what
        processes other than the first do.
      step: the step the run starts from: lines of later steps, which a killed run wrote after its
        last checkpoint, are taken off, so that no step appears twice.
      waiting: the lines that waited when that step was saved.
      trackers: where each line goes too.

    Raises:
      CheckpointError: the file cannot be read or written, or holds a line that is no JSON.
    """

    def __init__(
        self,
        path: Path | None,
        step: int,
        waiting: Sequence[Record] = (),
        trackers: Sequence[Tracker] = (),
    ):
        self._path, self._trackers = path, trackers
        self._waiting: list[Record] = []  # not written yet
        self._written: list[Record] = []  # but perhaps not on the disk itself
        self._told = False
        if path is not None and (path.exists() or waiting):
            self._start(path, step, waiting)

    def _start(self, path: Path, step: int, waiting: Sequence[Record]) -> None:
        found = read_metrics(path) if path.exists() else []
        kept = [line for line in found if line["step"] <= step]
        kept += [line for line in waiting if line not in kept]
        with replacing(path) as file:
            file.write("".join(map(_text, kept)).encode())

    def secured(self) -> list[Record]:
        """Flushes the lines onto the disk itself, and returns those that may not be there.

        A checkpoint takes them along: neither a full disk nor a power cut leaves a gap before it.
        """
        if self._path is not None and self._written:
            with contextlib.suppress(OSError):
                sync(self._path)
                sync(self._path.parent)
                self._written.clear()
        return [*self._written, *self._waiting]

    def write(
        self,
        step: int,
        values: Mapping[str, float | str],
        timing: Mapping[str, float] | None = None,
    ) -> None:
        """Appends a line, at once if it can: a run killed after it does not lose it."""
        if self._path is None:
            return
        line: Record = {"step": step, **values}
        if timing:
            line[TIMING] = {name: round(value, 4) for name, value in timing.items()}
        self._waiting.append(line)
        try:
            self._append(self._path)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "%s cannot be written (%s): its lines wait in memory and in the checkpoints",
                    self._path,
                    error.strerror,
                )
            self._told = True
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        for tracker in self._trackers:
            tracker.write(step, numbers, line.get(TIMING))

    def finish(self) -> None:
        """Writes the lines that wait.

        Raises:
          CheckpointError: it cannot; they are lost unless the checkpoint has them.
        """
        try:
            if self._path is not None and self._waiting:
                self._append(self._path)
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be written ({error.strerror}); mend the cause and start the "
                "same command again: the last checkpoint has the lines that it lacks"
            ) from error

    def _append(self, path: Path) -> None:
        """Writes all lines that wait, or none: half a line would spoil the file."""
        content = "".join(map(_text, self._waiting)).encode()
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
        self._written += self._waiting
        self._waiting.clear()
        self._told = False


def last_step(path: Path) -> int:
    """Returns the last step that a metrics file holds; 0 where there is none."""
    return max((line["step"] for line in read_metrics(path)), default=0) if path.exists() else 0


def _text(line: Record) -> str:
    return json.dumps(line) + "\n"


def read_metrics(path: Path) -> list[Record]:
    """Returns the lines of a metrics file; one that a killed run left half-written is left out.

    Raises:
      CheckpointError: another line is damaged, or the file cannot be read.
    """
    try:
        lines = path.read_text().split("\n")
        complete = lines[:-1]  # the last one has no newline: empty, or cut off
        return [json.loads(line) for line in complete if line]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(
            f"{path}: holds a line that is not JSON ({error}); mend it, or move the file away"
        ) from error


def scores_of(path: Path, step: int) -> Record:
    """Returns the scores of a step, {"test_accuracy": 0.98, …}; {} where it was not evaluated."""
    lines = read_metrics(path) if path.exists() else []
    scored = [line for line in lines if is_evaluation(line) and line["step"] == step]
    return {key: value for key, value in (scored or [{}])[-1].items() if key.startswith(_TEST)}


def is_evaluation(line: Record) -> bool:
    """Returns whether a line holds scores of the test split, whatever they are scores of."""
    return any(key.startswith(_TEST) for key in line)
