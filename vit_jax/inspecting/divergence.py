"""What `vit_jax diff` says: where two runs part, in settings, metrics, digests and arrays."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import trees
from vit_jax.checkpoints.store import Store
from vit_jax.config import differences
from vit_jax.errors import CheckpointError
from vit_jax.records.metrics_file import TIMING, Record, read_metrics
from vit_jax.workdir import Workdir, find_run

logger = logging.getLogger("vit_jax")

_SHOWN = 20  # arrays listed; the others are counted


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was found: lines for a person, and whether anything but speed differs."""

    lines: tuple[str, ...]
    differs: bool


def compare(left: str | Path, right: str | Path) -> Comparison:
    """Compares two runs: settings, metrics, digests of the steps, the last step both have saved.

    Timing is left out, and checkpoints that do not verify are passed over, as `restore` does.

    Raises:
      CheckpointError: one is no run, or its files cannot be read.
    """
    places = find_run(left)[0], find_run(right)[0]
    found = [_settings(*places), _metrics(*places), _digests(*places), _arrays(*places)]
    lines = tuple(line for lines, _ in found for line in lines)
    return Comparison(lines, any(differs for _, differs in found))


Finding = tuple[list[str], bool]  # lines, and whether they tell of a difference


def _settings(left: Workdir, right: Workdir) -> Finding:
    found = differences(left.settings(), right.settings())
    lines = [f"settings     config.{key}: {old!r} | {new!r}" for key, (old, new) in found.items()]
    return lines or ["settings     the same"], bool(found)


def _metrics(left: Workdir, right: Workdir) -> Finding:
    a, b = ([_timeless(line) for line in _lines(one.metrics)] for one in (left, right))
    for number, (one, other) in enumerate(zip(a, b, strict=False), 1):
        if one != other:
            return [f"metrics      part at line {number}: {_unequal(one, other)}"], True
    if len(a) != len(b):
        return [f"metrics      the same for {min(len(a), len(b))} lines; {_longer(a, b)}"], True
    return [f"metrics      the same, {len(a)} lines"], False


def _digests(left: Workdir, right: Workdir) -> Finding:
    a, b = (
        {line["step"]: line["state_digest"] for line in _lines(one.digests)}
        for one in (left, right)
    )
    common = sorted(a.keys() & b.keys())
    if not common:
        return ["digests      none to compare; set config.state_digests=True in both runs"], False
    for step in common:
        if a[step] != b[step]:
            return [f"digests      part at step {step}: {a[step]} | {b[step]}"], True
    return [f"digests      the same, {len(common)} steps from {common[0]} to {common[-1]}"], False


def _arrays(left: Workdir, right: Workdir) -> Finding:
    with Store(left.checkpoints) as one, Store(right.checkpoints) as other:
        for step in sorted(set(one.steps()) & set(other.steps()), reverse=True):
            try:
                restored = one.restore(None, step), other.restore(None, step)
            except CheckpointError as error:
                logger.warning("%s", error)
                continue
            break
        else:
            return ["checkpoints  no intact step that both have saved"], False
    a, b = (trees.flatten(r.state) if r else {} for r in restored)
    lines = _unlike(a, b)
    if not lines:
        return [f"checkpoints  step {step}: all {len(a)} arrays have the same bits"], False
    more = len(lines) - _SHOWN
    shown = [f"  {line}" for line in lines[:_SHOWN]] + (
        [f"  … and {more} more"] if more > 0 else []
    )
    return [f"checkpoints  step {step}: {len(lines)} of {len(a)} arrays differ", *shown], True


def _unlike(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a line for each array that differs, by path, with the largest difference."""
    lines = []
    for path in [*a, *(path for path in b if path not in a)]:
        if path not in a or path not in b:
            lines.append(f"{path}: only in the {'first' if path in a else 'second'}")
            continue
        x, y = np.asarray(a[path]), np.asarray(b[path])
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            lines.append(f"{path}: {x.dtype}{x.shape} | {y.dtype}{y.shape}")
        elif x.tobytes() != y.tobytes():
            lines.append(f"{path}: {_largest(x, y)}")
    return lines


def _largest(x: np.ndarray, y: np.ndarray) -> str:
    one, other = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(one - other)
    if not np.isfinite(gaps).all():
        return "not finite in one or both"
    top = max(np.abs(one).max(), np.abs(other).max())
    unlike = int((one != other).sum())
    return (
        f"largest difference {gaps.max():.3g} where the largest value is {top:.3g} "
        f"({unlike} of {x.size} values)"
    )


def _lines(file: Path) -> list[Record]:
    return read_metrics(file) if file.exists() else []


def _timeless(line: Record) -> Record:
    return {key: value for key, value in line.items() if key != TIMING}


def _unequal(one: Record, other: Record) -> str:
    """Returns the step, and what differs there."""
    if one["step"] != other["step"]:
        return f"step {one['step']} | {other['step']}"
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return f"step {one['step']}, " + ", ".join(
        f"{k} {_value(one, k)} | {_value(other, k)}" for k in keys
    )


def _value(line: Record, key: str) -> Any:
    return line.get(key, "absent")


def _longer(a: list[Record], b: list[Record]) -> str:
    longer, name = (a, "first") if len(a) > len(b) else (b, "second")
    return f"the {name} goes on to step {longer[-1]['step']}"
