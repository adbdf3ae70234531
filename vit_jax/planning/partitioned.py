"""The collectives of a compiled program, as XLA's partitioner made them: the proof of a plan."""

import collections
import itertools
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

Groups = frozenset[frozenset[int]]
GATHER, SUM, OTHER = "gather", "sum", "other"
# A sum whose shares are kept by one device each is a reduce-scatter on GPU and TPU; on CPU, XLA
# leaves it an all-reduce and a slice. Both are sums here.
_KINDS = {"all-gather": GATHER, "all-reduce": SUM, "reduce-scatter": SUM}
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|to_apply|calls)=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def collective_bytes(program: str, mesh: Mapping[str, int]) -> dict[tuple[str, str], float | int]:
    """Returns {(kind, axis): bytes} that the devices of a compiled program exchange.

    Args:
      program: HLO after partitioning, as `Compiled.as_text` gives it.
      mesh: {axis: devices}, the slowest first, of devices numbered in order.

    Returns:
      Bytes of the arrays, gathered or before they are summed, for the kinds "gather" and "sum" and
      all others; axes joined by "+" where devices of several take part together, "?" where the
      groups are those of no axes.
    """
    found: dict[tuple[str, str], float | int] = collections.defaultdict(float)
    axes = _groups_of_axes(mesh)
    repeats = _repeats(program)
    for computation, line in _lines(program):
        if match := _COLLECTIVE.search(line):
            kind = _KINDS.get(match[2], OTHER)
            axis = axes.get(_groups(line, math.prod(mesh.values())), "?")
            size = sum(_size(*array) for array in _ARRAY.findall(match[1]))
            if match[2] == "reduce-scatter":  # its result is a share
                size *= math.prod(mesh[name] for name in axis.split("+") if name in mesh)
            found[kind, axis] += size * repeats[computation]
    return dict(found)


def _lines(program: str) -> Iterator[tuple[str, str]]:
    """Yields (name of the computation, line)."""
    name = ""
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[1]
        else:
            yield name, line


def _repeats(program: str) -> dict[str, int]:
    """Returns how often each computation runs, loops multiplied."""
    callers: dict[str, tuple[str, int]] = {}
    for computation, line in _lines(program):
        trips = _TRIPS.search(line)
        for called in _CALLED.findall(line):
            callers[called] = computation, int(trips[1]) if trips else 1

    def times(name: str) -> int:
        if name not in callers:
            return 1
        caller, trips = callers[name]
        return trips * times(caller)

    return collections.defaultdict(lambda: 1, {name: times(name) for name in callers})


def _size(dtype: str, shape: str) -> int:
    return _BYTES.get(dtype, 0) * math.prod(int(n) for n in shape.split(",") if n)


def _groups_of_axes(mesh: Mapping[str, int]) -> dict[Groups, str]:
    """Returns {groups of devices: axes that they lie along}, for each set of axes."""
    ids = np.arange(math.prod(mesh.values())).reshape(tuple(mesh.values()))
    longer = [i for i, n in enumerate(mesh.values()) if n > 1]
    found = {}
    for count in range(1, len(longer) + 1):
        for chosen in itertools.combinations(longer, count):
            rows = _along(ids, chosen)
            found[rows] = "+".join(list(mesh)[i] for i in chosen)
    return found


def _along(ids: np.ndarray, axes: tuple[int, ...]) -> Groups:
    size = math.prod(ids.shape[axis] for axis in axes)
    rows = np.moveaxis(ids, axes, range(-len(axes), 0)).reshape(-1, size)
    return frozenset(frozenset(row) for row in rows.tolist())


def _groups(line: str, devices: int) -> Groups:
    """Reads `replica_groups` in any of the ways in which XLA writes them; empty if in another."""
    if match := re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", line):
        rows = re.findall(r"\{([\d,]+)\}", match[1])
        return frozenset(frozenset(int(n) for n in row.split(",")) for row in rows)
    if match := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        shape, sizes, order = (
            [int(n) for n in (part or "").split(",") if n] for part in match.groups()
        )
        ids = np.arange(devices).reshape(sizes).transpose(order or None).reshape(shape)
        return frozenset(frozenset(row) for row in ids.tolist())
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        names = re.findall(r"'(\w+)'=(\d+)", match[1])
        ids = np.arange(devices).reshape([int(n) for _, n in names])
        chosen = re.findall(r"'(\w+)'", match[2])
        return _along(ids, tuple(i for i, (name, _) in enumerate(names) if name in chosen))
    return frozenset()
