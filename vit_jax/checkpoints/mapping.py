"""The engine of all formats: a format is a table of rows, read in both directions.

A row is (pattern of their name, patterns of ours, transform). `{i}` and `{j}` stand for numbers,
`{i+1}` for one more, and `{rest}` for anything. The first row that fits a name has it.

No key is lost in silence: every name of a file is either turned into ours, or named by a row as of
no use, or in the error; and every parameter of the model is either found, or in the same error.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.transforms import SAME, Transform, stacked
from vit_jax.errors import CheckpointError, nearest

Shape = tuple[int, ...]

# Of one stacked array. Each becomes a name and an array of its own, even where it has no elements
# and so takes no bytes in the file; the deepest published models have below 100.
MAX_LAYERS = 1_000


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a format's table.

    Attributes:
      theirs: pattern of the name in the file.
      ours: pattern of our path; several where one of their arrays holds several of ours; none for
        an array that a classifier has no use for. Where `{i}` stands here and not in `theirs`,
        their array holds all layers.
      transform: between their array and ours.
    """

    theirs: str
    ours: tuple[str, ...]
    transform: Transform = SAME

    def stacks(self) -> bool:
        """Whether one array of theirs holds a parameter of all layers."""
        return any("{i}" in path for path in self.ours) and "{i}" not in self.theirs


Table = Sequence[Row]


class Reading(NamedTuple):
    """What a table made of a file.

    Attributes:
      arrays: {our path: array}.
      sources: {our path: its name in the file}.
      unused: names in the file that rows name as of no use.
      unknown: names in the file that no row has.
      misfits: sentences on arrays whose shape their row cannot take.
    """

    arrays: dict[str, np.ndarray]
    sources: dict[str, str]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]
    misfits: tuple[str, ...]


def read(table: Table, arrays: Mapping[str, np.ndarray]) -> Reading:
    """Turns a file's arrays into ours; whether they are what a model wants, `check` says."""
    ours: dict[str, np.ndarray] = {}
    sources: dict[str, str] = {}
    unused, unknown, misfits = [], [], []
    for name, array in arrays.items():
        found = _row_of(table, name)
        if found is None:
            unknown.append(name)
        elif not found[0].ours:
            unused.append(name)
        elif found[0].stacks() and array.shape[:1] > (MAX_LAYERS,):
            misfits.append(f"{name} has shape {array.shape}, of more than {MAX_LAYERS:,} layers")
        else:
            row, numbers = found
            try:
                parts = _transform(row).decode(array)
            except (ValueError, IndexError):
                misfits.append(f"{name} has shape {array.shape}")
                continue
            for path, part in zip(_paths(row, numbers, len(parts)), parts, strict=True):
                if path in sources:
                    misfits.append(f"{name} and {sources[path]} are both {path}")
                ours[path], sources[path] = part, name
    return Reading(ours, sources, tuple(unused), tuple(unknown), tuple(misfits))


def shapes_alone(headers: Mapping[str, Header]) -> dict[str, np.ndarray]:
    """Returns arrays of these shapes and dtypes, each of one element's memory, to `read`."""
    return {
        name: np.broadcast_to(np.zeros((), header.dtype), header.shape)
        for name, header in headers.items()
    }


def check(reading: Reading, wanted: Mapping[str, Shape], table: Table, where: str) -> None:
    """Raises one `CheckpointError` with all that is missing, extra or of another shape.

    Args:
      reading: what the file holds.
      wanted: {our path: shape}, all of them.
      table: the file's table, for the names that missing parameters would have in it.
      where: the file, to begin the error with.
    """
    extra = [reading.sources[path] for path in reading.arrays if path not in wanted]
    extra = list(dict.fromkeys([*reading.unknown, *extra]))
    lacking = [path for path in wanted if path not in reading.arrays]
    missing = list(dict.fromkeys(_their_name(table, path) for path in lacking))
    wrong = [
        f"{reading.sources[path]} makes {path} {array.shape}, not {tuple(wanted[path])}"
        for path, array in reading.arrays.items()
        if path in wanted and array.shape != tuple(wanted[path])
    ]
    parts = []
    if missing:
        parts.append(f"missing {_listed(missing, extra)}")
    if extra:
        parts.append(f"extra {_listed(extra, missing)}")
    if wrong or reading.misfits:
        parts.append(f"of another shape: {'; '.join(grouped([*reading.misfits, *wrong]))}")
    if parts:
        raise CheckpointError(
            f"{where} does not fit the model: {'; '.join(parts)}; give the fields of the model "
            "that it was made with"
        )


def write(
    table: Table, arrays: Mapping[str, np.ndarray], format_name: str
) -> dict[str, np.ndarray]:
    """Turns our {path: array} into the arrays of a format: `read` undone.

    Raises:
        CheckpointError: parameters that the format has no name for; all of them are listed.
    """
    parts: dict[str, tuple[Row, dict[tuple[int, int], np.ndarray]]] = {}
    homeless = []
    for path, array in arrays.items():
        found = _row_for(table, path)
        if found is None:
            homeless.append(path)
            continue
        row, slot, numbers = found
        place = (slot, int(numbers["i"]) if row.stacks() else 0)
        parts.setdefault(_filled(row.theirs, numbers), (row, {}))[1][place] = array
    broken = [name for name, (row, held) in parts.items() if not _complete(row, held)]
    if homeless or broken:
        listed = "; ".join(grouped([*homeless, *(f"parts of {name}" for name in broken)]))
        raise CheckpointError(
            f"the {format_name} format has no place for {listed}; convert to 'official', which "
            "holds every model"
        )
    return {
        name: _transform(row).encode([held[place] for place in sorted(held)])
        for name, (row, held) in parts.items()
    }


def grouped(lines: Iterable[str]) -> list[str]:
    """Joins lines that differ in their layer alone: "blocks.*.ls1.gamma (12 times)"."""
    counts: dict[str, list[str]] = {}
    for line in lines:
        counts.setdefault(re.sub(r"(?<=[._])\d+(?=[./])", "*", line), []).append(line)
    return [
        same[0] if len(same) == 1 else f"{pattern} ({len(same)} times)"
        for pattern, same in counts.items()
    ]


def _listed(names: Sequence[str], others: Sequence[str]) -> str:
    """Names, each with the nearest of the others, which it may be a misspelling of."""
    candidates = grouped(others)
    return ", ".join(
        name + nearest(name, candidates).replace("; did you mean", " (near").replace("?", ")")
        for name in grouped(names)
    )


def _complete(row: Row, held: Mapping[tuple[int, int], np.ndarray]) -> bool:
    if row.stacks():
        return sorted(held) == [(0, i) for i in range(len(held))]
    return len(held) == len(row.ours)


def _transform(row: Row) -> Transform:
    return stacked(row.transform) if row.stacks() else row.transform


_PLACE = re.compile(r"\{(i|j|rest)(\+1)?\}")


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    kept = _PLACE.split(pattern)  # text, name, "+1" or None, text, …
    regex = re.escape(kept[0])
    for name, _, text in zip(kept[1::3], kept[2::3], kept[3::3], strict=True):
        regex += f"(?P<{name}>{'.+' if name == 'rest' else '[0-9]+'}){re.escape(text)}"
    return re.compile(regex)


def _matched(pattern: str, name: str) -> dict[str, str] | None:
    """Returns what the places of a pattern stand for in a name; None if it does not fit."""
    match = _compiled(pattern).fullmatch(name)
    if match is None:
        return None
    found = match.groupdict()
    for place, one_more in (found_place.groups() for found_place in _PLACE.finditer(pattern)):
        if one_more:
            found[place] = str(int(found[place]) - 1)
    return found


def _filled(pattern: str, found: Mapping[str, str]) -> str:
    """Returns the pattern with its places filled: `_matched` undone."""
    return _PLACE.sub(functools.partial(_value_at, found), pattern)


def _value_at(found: Mapping[str, str], place: re.Match[str]) -> str:
    value = found.get(place[1], "*")
    return str(int(value) + 1) if place[2] else value


def _row_of(table: Table, name: str) -> tuple[Row, dict[str, str]] | None:
    for row in table:
        if (found := _matched(row.theirs, name)) is not None:
            return row, found
    return None


def _row_for(table: Table, path: str) -> tuple[Row, int, dict[str, str]] | None:
    for row in table:
        for slot, ours in enumerate(row.ours):
            if (found := _matched(ours, path)) is not None:
                return row, slot, found
    return None


def _paths(row: Row, numbers: Mapping[str, str], count: int) -> list[str]:
    if row.stacks():
        return [_filled(row.ours[0], {**numbers, "i": str(i)}) for i in range(count)]
    return [_filled(path, numbers) for path in row.ours]


def _their_name(table: Table, path: str) -> str:
    found = _row_for(table, path)
    return path if found is None else _filled(found[0].theirs, found[2])
