"""Runs compared: those that differ in their seed alone are one group, with its mean and spread."""

import dataclasses
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from vit_jax.config import as_tuple
from vit_jax.errors import CheckpointError
from vit_jax.records.metrics_file import Record, is_evaluation, read_metrics
from vit_jax.settings import HARMLESS
from vit_jax.settings.augreg import PRESETS
from vit_jax.settings.training import second_decay
from vit_jax.tables import table
from vit_jax.workdir import Workdir

_WIDEST, _HEADING = 38, 8  # letters of a line that says what a group is, and of a heading
_LONGEST = 40  # letters of a value beside others; the table of all settings has it whole
_FEW_SETTINGS, _FEW_RUNS = 6, 4  # that a group is described by
# (heading, key in metrics.jsonl, factor, digits); of these those that a run has
_COLUMNS = (
    ("accuracy, %", "test_accuracy", 100.0, 2),
    ("macro F1, %", "test_macro_f1", 100.0, 2),
    ("weighted F1, %", "test_weighted_f1", 100.0, 2),
    ("loss", "test_loss", 1.0, 4),
    ("calibration error, %", "test_ece", 100.0, 2),
    ("image → text @1, %", "test_image_to_text_recall_1", 100.0, 2),
    ("@5, %", "test_image_to_text_recall_5", 100.0, 2),
    ("text → image @1, %", "test_text_to_image_recall_1", 100.0, 2),
    ("@5, %", "test_text_to_image_recall_5", 100.0, 2),
)

Point = tuple[int, float, float | None]  # step, mean, standard deviation


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose settings differ in the seed alone.

    Attributes:
      settings: {setting: value} of those in which not all groups are the same; first the ones that
        tell most groups apart.
      runs: the lines of metrics.jsonl of each.
      workdirs: the end of the path of each, as long as it takes to tell all of them apart.
    """

    settings: dict[str, Any]
    runs: tuple[tuple[Record, ...], ...]
    workdirs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its workdirs, of many the first ones: no other group has this name."""
        more = len(self.workdirs) - _FEW_RUNS
        ending = f" and {more} more" if more > 0 else ""
        return ", ".join(self.workdirs[:_FEW_RUNS]) + ending

    @property
    def few_settings(self) -> list[str]:
        """The settings that differ, "key=value" each; of many the first ones."""
        shown = [f"{key}={_cut(str(value))}" for key, value in self.settings.items()]
        more = len(shown) - _FEW_SETTINGS
        return [*shown[:_FEW_SETTINGS], f"and {more} more"] if more > 0 else shown

    def last(self, key: str) -> list[float]:
        """Returns a test score of the last evaluation of each run that has it."""
        found = ([line[key] for line in run if key in line] for run in self.runs)
        return [values[-1] for values in found if values]

    def last_steps(self) -> list[int]:
        """Returns the step of the last evaluation of each run."""
        return [[line["step"] for line in run if is_evaluation(line)][-1] for run in self.runs]

    def curve(self, key: str) -> list[Point]:
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
    grouped: dict[tuple[tuple[str, Any], ...], list[tuple[str, tuple[Record, ...]]]] = {}
    for place, name in zip(places, _short_names(places), strict=True):
        key = tuple(sorted(_settings(place).items()))
        grouped.setdefault(key, []).append((name, _lines(place)))
    differing = _differing([dict(key) for key in grouped])
    return [
        Group(settings, tuple(lines for _, lines in found), tuple(name for name, _ in found))
        for settings, found in zip(differing, grouped.values(), strict=True)
    ]


def _short_names(places: Sequence[Workdir]) -> list[str]:
    """Returns the last parts of the paths, as few of them as leave no two the same."""
    paths = [place.root.resolve() for place in places]
    names, count = [path.name for path in paths], 1
    while len(set(names)) < len(names):  # the paths differ, so this ends
        count += 1
        names = [str(Path(*path.parts[-count:])) for path in paths]
    return names


def _settings(place: Workdir) -> dict[str, Any]:
    if not place.config.is_file() or not place.metrics.is_file():
        raise CheckpointError(
            f"{place.given}: holds no config.json and metrics.jsonl; it is not the workdir of a run"
        )
    ignored = HARMLESS | {"seed"}
    found = {key: as_tuple(value) for key, value in place.settings().items() if key not in ignored}
    return _in_one_spelling(found)


def _in_one_spelling(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings in which a default, or a preset, that a recipe spells out stands as such."""
    spelt = dict(settings)
    if spelt["optimizer"] != "sgd":  # which has no second moment
        spelt["beta2"] = second_decay(spelt["optimizer"], spelt["beta2"])
    if spelt["layer_decay"] == 1:
        spelt["layer_decay"] = None
    preset = PRESETS.get(spelt["augment.preset"], {})
    spelt |= {f"augment.{name}": as_tuple(value) for name, value in preset.items()}
    return spelt | {"augment.preset": None}


def _lines(place: Workdir) -> tuple[Record, ...]:
    lines = tuple(read_metrics(place.metrics))
    if not any(map(is_evaluation, lines)):
        raise CheckpointError(f"{place.given}: was not evaluated yet; let it run on")
    return lines


def _differing(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns, of each group, the settings in which not all are the same; the most telling first.

    That is, beside those before it, the one by which most groups are told apart.
    """
    values = {key: {group.get(key) for group in groups} for group in groups for key in group}
    left = [key for key in values if len(values[key]) > 1]
    chosen: list[str] = []

    def telling(key: str) -> tuple[int, int]:
        told = {tuple(group.get(one) for one in (*chosen, key)) for group in groups}
        return len(told), len(values[key])

    while left:
        chosen.append(max(left, key=telling))
        left.remove(chosen[-1])
    return [{key: group.get(key) for key in chosen} for group in groups]


def comparison_table(groups: Sequence[Group]) -> rich.table.Table:
    """Returns a table of the last test scores: mean ± standard deviation over the runs."""
    made = table("last evaluation on the test split", [], ["#"])
    made.box, made.show_lines = rich.box.HORIZONTALS, True
    made.pad_edge, made.collapse_padding = False, True
    made.add_column("workdirs", overflow="fold", max_width=_WIDEST)
    columns = [column for column in _COLUMNS if any(group.last(column[1]) for group in groups)]
    for heading in ("runs", "steps", *(heading for heading, *_ in columns)):
        # Only the column to their left becomes narrower where there is no room.
        lines = textwrap.fill(heading, _HEADING, break_long_words=False)
        made.add_column(lines, justify="right", no_wrap=True)
    for number, group in enumerate(groups, 1):
        scores = (_shown(group.last(key), factor, digits) for _, key, factor, digits in columns)
        steps = sorted(set(group.last_steps()))
        shown = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,}\n–{steps[-1]:,}"
        text = "\n".join([group.name, *group.few_settings])
        made.add_row(str(number), text, str(len(group.runs)), shown, *scores)
    return made


def settings_table(groups: Sequence[Group]) -> rich.table.Table | None:
    """Returns a table of all settings that differ, with the groups, by number, of each value.

    None where they are so few that the rows of `comparison_table` say them all.
    """
    if len(groups[0].settings) <= _FEW_SETTINGS:
        return None
    made = table("all settings that differ, with the numbers (#) of the groups", ["setting"], [])
    made.add_column("values", overflow="fold")
    for key in sorted(groups[0].settings):
        numbers: dict[Any, list[str]] = {}
        for number, group in enumerate(groups, 1):
            numbers.setdefault(group.settings[key], []).append(f"#{number}")
        shown = (f"{value} in {', '.join(found)}" for value, found in numbers.items())
        made.add_row(key, "; ".join(shown))
    return made


def _cut(text: str) -> str:
    """Leaves the middle of a long text out: paths differ at their ends."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[1 - half :]}"


def _shown(values: Sequence[float], factor: float, digits: int) -> str:
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    around = "" if spread is None else f"\n± {factor * spread:.{digits}f}"
    return f"{factor * mean:.{digits}f}{around}"
