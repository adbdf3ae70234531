"""Runs compared: those that differ in their seed alone are one group, with its mean and spread."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import rich.table

from vit_jax.config import as_tuple
from vit_jax.errors import CheckpointError
from vit_jax.records.metrics_file import Record, is_evaluation, read_metrics
from vit_jax.settings import HARMLESS
from vit_jax.tables import table
from vit_jax.workdir import Workdir

_WIDEST = 30  # letters of a setting in the table
# (heading, key in metrics.jsonl, factor, digits); of these those that a run has
_COLUMNS = (
    ("accuracy, %", "test_accuracy", 100.0, 2),
    ("macro F1, %", "test_macro_f1", 100.0, 2),
    ("loss", "test_loss", 1.0, 4),
    ("calibration error, %", "test_ece", 100.0, 2),
    ("image → text @1, %", "test_image_to_text_recall_1", 100.0, 2),
    ("@5, %", "test_image_to_text_recall_5", 100.0, 2),
    ("text → image @1, %", "test_text_to_image_recall_1", 100.0, 2),
    ("@5, %", "test_text_to_image_recall_5", 100.0, 2),
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose settings differ in the seed alone.

    Attributes:
      settings: those in which it differs from the other groups, "key=value" each; of a single
        group, its workdir.
      runs: the lines of metrics.jsonl of each.
      workdirs: as the user wrote them.
    """

    settings: tuple[str, ...]
    runs: tuple[tuple[Record, ...], ...]
    workdirs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The settings in one line."""
        return ", ".join(self.settings)

    def last(self, key: str) -> list[float]:
        """Returns a test score of the last evaluation of each run that has it."""
        found = ([line[key] for line in run if key in line] for run in self.runs)
        return [values[-1] for values in found if values]

    def last_steps(self) -> list[int]:
        """Returns the step of the last evaluation of each run."""
        return [[line["step"] for line in run if is_evaluation(line)][-1] for run in self.runs]

    def curve(self, key: str) -> list[tuple[int, float, float | None]]:
        """Returns (step, mean, standard deviation) at the steps that all runs have a value for.

        The deviation is that of a sample; None for a single run.
        """
        by_run = [{line["step"]: line[key] for line in run if key in line} for run in self.runs]
        steps = sorted(set.intersection(*map(set, by_run)))
        return [(step, *mean_and_spread([run[step] for run in by_run])) for step in steps]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the sample's standard deviation; None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def compare(workdirs: Sequence[str]) -> list[Group]:
    """Reads runs and groups them, in the order in which they are given.

    Settings that change no number (threads, devices, checkpoints) part no groups.

    Raises:
      CheckpointError: a workdir is given twice, or is no run, or one that was never evaluated.
    """
    places = [Workdir(given) for given in workdirs]
    for number, place in enumerate(places):
        if place.root.resolve() in [other.root.resolve() for other in places[:number]]:
            raise CheckpointError(f"{place.given}: is given twice; a run counts once")
    runs = [(place, _settings(place), _lines(place)) for place in places]
    grouped: dict[tuple[tuple[str, Any], ...], list[tuple[Workdir, tuple[Record, ...]]]] = {}
    for place, settings, lines in runs:
        key = tuple(sorted(settings.items(), key=lambda pair: pair[0]))
        grouped.setdefault(key, []).append((place, lines))
    differing = _differing(
        [dict(key) for key in grouped], [found[0][0].given for found in grouped.values()]
    )
    return [
        Group(named, tuple(lines for _, lines in found), tuple(place.given for place, _ in found))
        for named, found in zip(differing, grouped.values(), strict=True)
    ]


def _settings(place: Workdir) -> dict[str, Any]:
    if not place.config.is_file() or not place.metrics.is_file():
        raise CheckpointError(
            f"{place.given}: holds no config.json and metrics.jsonl; it is not the workdir of a run"
        )
    ignored = HARMLESS | {"seed"}
    return {key: as_tuple(value) for key, value in place.settings().items() if key not in ignored}


def _lines(place: Workdir) -> tuple[Record, ...]:
    lines = tuple(read_metrics(place.metrics))
    if not any(map(is_evaluation, lines)):
        raise CheckpointError(f"{place.given}: was not evaluated yet; let it run on")
    return lines


def _differing(groups: Sequence[dict[str, Any]], fallback: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns, of each group, the settings in which not all are the same."""
    keys = list(dict.fromkeys(key for group in groups for key in group))
    differ = [key for key in keys if len({repr(group.get(key)) for group in groups}) > 1]
    if not differ:
        return [(given,) for given in fallback]
    return [tuple(f"{key}={group.get(key)}" for key in differ) for group in groups]


def comparison_table(groups: Sequence[Group]) -> rich.table.Table:
    """Returns a table of the last test scores: mean ± standard deviation over the runs."""
    made = table("last evaluation on the test split", [], [])
    # A width of its own, so that the figures beside it break no setting that is not long.
    longest = max(len(one) for group in groups for one in ("settings", *group.settings))
    made.add_column("settings", overflow="fold", width=min(longest, _WIDEST))
    columns = [column for column in _COLUMNS if any(group.last(column[1]) for group in groups)]
    for heading in ("runs", "steps", *(heading for heading, *_ in columns)):
        made.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    for group in groups:
        scores = (_shown(group.last(key), factor, digits) for _, key, factor, digits in columns)
        steps = sorted(set(group.last_steps()))
        shown = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,}–{steps[-1]:,}"
        made.add_row("\n".join(group.settings), str(len(group.runs)), shown, *scores)
    return made


def _shown(values: Sequence[float], factor: float, digits: int) -> str:
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    around = "" if spread is None else f" ± {factor * spread:.{digits}f}"
    return f"{factor * mean:.{digits}f}{around}"
