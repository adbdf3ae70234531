"""From a folder of images to all settings of a run, and what each was chosen for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.choosing import fitting, rules
from vit_jax.choosing.data import Facts
from vit_jax.choosing.rules import Choice, Devices, Weights
from vit_jax.choosing.sources import find_devices, find_weights, model_or_default
from vit_jax.config import Config, default_config, validate
from vit_jax.errors import ConfigError
from vit_jax.experiment import build
from vit_jax.finetune import settled
from vit_jax.recipes import apply_flags, merge, set_by_flags
from vit_jax.runtime import memory

_LENGTHS = ("total_steps", "epochs")
_ELSEWHERE = {"dataset": "FOLDER", "model_or_filename": "--model", "pretrained_dir": "--model"}


@dataclasses.dataclass(frozen=True)
class Known:
    """All that is chosen from, before anything is compiled.

    Attributes:
      facts, weights, devices: what was found.
      given: {setting: value} that the user has decided.
      minutes: the budget of time; None for none.
    """

    facts: Facts
    weights: Weights
    devices: Devices
    given: Mapping[str, Any]
    minutes: float | int | None = None


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the compiled step says of itself.

    Attributes:
      accum_steps: parts of the batch that fit.
      bytes: that a step needs of a device.
      free: bytes of it that are free; None where not known.
      seconds: of a step.
      saved: share of the time that these parts save beside the fewest that fit.
    """

    accum_steps: int
    bytes: int
    free: int | None
    seconds: float | int
    saved: float | int = 0.0


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The settings of a run.

    Attributes:
      config: all of them.
      choices: those that were chosen or given, in the order in which to read them.
      known, measured: what from.
    """

    config: Config
    choices: tuple[Choice, ...]
    known: Known
    measured: Measured

    @property
    def minutes(self) -> float | int:
        """What training and testing take, by the steps that were timed."""
        facts, config, step = self.known.facts, self.config, self.measured.seconds
        steps = config.total_steps or round(config.epochs * facts.train / config.batch)
        tests = -(-steps // config.eval_every)
        testing = tests * facts.test * rules.TEST_COST * step / config.batch
        return (steps * step + testing) / 60

    @property
    def timed(self) -> str:
        """Where that figure comes from."""
        step = f"{self.measured.seconds:.2g} s a step, measured"
        return f"{step}; without reading and compiling"

    @property
    def found(self) -> str:
        """What the settings were chosen for, in a few words."""
        devices, free = self.known.devices, self.measured.free
        room = f", {memory.shown(free)} free on each" if free is not None else ""
        return f"{_counted(self.known.facts)}; {devices.count} {devices.platform}{room}"


def choose(
    facts: Facts,
    model: str | None = None,
    minutes: float | int | None = None,
    overrides: Sequence[str] = (),
) -> Chosen:
    """Chooses the settings of a fine-tuning run, and compiles and times its step.

    Args:
      facts: of the images.
      model: weights, as `load_pretrained` takes them; None takes small ones for the devices.
      minutes: for training and testing; None takes as long as the rules say.
      overrides: `--config.key=value` flags, which win.

    Raises:
      ConfigError: too little memory or time, or flags that do not fit.
      CheckpointError: no such weights.
    """
    given = set_by_flags(overrides)
    for key, where in _ELSEWHERE.items():
        if key in given:
            raise ConfigError(f"--config.{key}: is said by {where}; give it there alone")
    if minutes is not None and (both := [key for key in _LENGTHS if key in given]):
        raise ConfigError(f"--minutes={minutes:g} and --config.{both[0]}: give one of the two")
    devices = find_devices()
    weights = find_weights(model_or_default(model, devices))
    known = Known(facts, weights, devices, given, minutes)
    measured = _measured(known, overrides)
    choices = choices_of(known, measured)
    _check_steps(known, measured, choices)
    return Chosen(_config(choices, overrides), tuple(choices), known, measured)


def check_fits(config: Config) -> None:
    """Compiles the step of a recipe that somebody has edited, and asks whether it fits.

    Raises:
      ConfigError: the devices have too little memory.
      ConfigError, DataError, CheckpointError: as `train`.
    """
    experiment = build(settled(config))
    fitting.fitted(experiment, memory.free_bytes(), parts=config.accum_steps)


def _measured(known: Known, overrides: Sequence[str]) -> Measured:
    """Compiles and times the step of the run; all else of it is dropped again."""
    config = settled(_config(choices_of(known, None), overrides))
    with memory.for_training(config):
        experiment = build(config)
        free = memory.free_bytes()
        given = known.given.get("accum_steps")
        fewest = fitting.fitted(experiment, free, parts=given)
        fit = fitting.timed(experiment, fewest, divide=given is None)
    return Measured(fit.accum_steps, fit.program.bytes, free, fit.seconds, fit.saved)


def choices_of(known: Known, measured: Measured | None) -> list[Choice]:
    """Returns the settings by the rules, and in their places those that were given.

    Args:
      known: what to choose from.
      measured: None before anything is compiled.
    """
    facts, given = known.facts, known.given

    def taken(choice: Choice) -> Choice:
        if choice.setting not in given:
            return choice
        return Choice(choice.setting, given[choice.setting], "as you said")

    size = taken(rules.batch(facts, known.devices))
    length, steps = _length(known, size.value, measured)
    parts = taken(_parts(measured, size.value))
    found = [
        Choice("dataset", facts.folder, _counted(facts)),
        Choice("pp.train", facts.train_split, "the images to learn from"),
        Choice("pp.test", facts.test_split, _tested(facts)),
        Choice("model_or_filename", known.weights.name, f"made for {known.weights.size} px"),
        rules.resolution(facts, known.weights, known.devices),
        *rules.augmentation(facts),
        size,
        parts,
        Choice("optimizer", "sgd", "momentum 0.9, gradients clipped: the official one"),
        rules.learning_rate(size.value),
        Choice("decay_type", "cosine", "down to 0, as officially"),
        length,
        rules.warmup(steps),
        *rules.evaluations(facts, steps, size.value),
        Choice("batch_eval", size.value // parts.value, "a part of the batch: tests take less"),
        Choice("report", True, "a page of scores, curves, mistakes and attention"),
    ]
    named = {choice.setting for choice in found}
    more = [Choice(key, value, "as you said") for key, value in given.items() if key not in named]
    return [*map(taken, found), *more]


def _length(known: Known, size: int, measured: Measured | None) -> tuple[Choice, int]:
    """Returns the setting of the run's length, and the steps that it means."""
    facts, given = known.facts, known.given
    for key in _LENGTHS:
        if given.get(key) is not None:
            epochs = key == "epochs"
            steps = max(1, round(given[key] * facts.train / size)) if epochs else given[key]
            return Choice(key, given[key], "as you said"), steps
    ruled = rules.steps(facts, size, known.devices)
    if known.minutes is None or measured is None:
        return ruled, ruled.value
    fit = rules.steps_in(known.minutes, measured.seconds, facts, size, ruled.value)
    return fit, fit.value


def _parts(measured: Measured | None, batch: int) -> Choice:
    if measured is None:
        return Choice("accum_steps", 1, "not measured yet")
    needs = f"a step takes {memory.shown(measured.bytes)}"
    if measured.saved:
        images = batch // measured.accum_steps
        needs = f"{measured.saved:.0%} less time by {images} images at once, measured; {needs}"
    if measured.free is None:
        return Choice("accum_steps", measured.accum_steps, f"{needs}; what is free is not known")
    why = f"{needs} of the {memory.shown(measured.free)} that are free"
    return Choice("accum_steps", measured.accum_steps, why)


def _counted(facts: Facts) -> str:
    spread = (
        f"{facts.fewest:,} to {facts.most:,}" if facts.fewest < facts.most else f"{facts.most:,}"
    )
    return f"{facts.train:,} to train on: {facts.classes:,} classes of {spread} images"


def _tested(facts: Facts) -> str:
    held = ", held out" if facts.held_out else ""
    spread = 100 * rules.score_spread(facts.test)
    return f"{facts.test:,} images{held}: the score is sure to ±{spread:.1f} %"


def _check_steps(known: Known, measured: Measured, choices: Sequence[Choice]) -> None:
    """Raises ConfigError if the minutes are too few to learn anything in."""
    steps = next((one.value for one in choices if one.setting == "total_steps"), None)
    least = rules.FEWEST_IN_MINUTES
    if known.minutes is not None and steps is not None and steps < least:
        needed = least * measured.seconds / 60 / (1 - rules.MOST_TESTING)
        raise ConfigError(
            f"--minutes={known.minutes:g}: {steps} steps of {measured.seconds:.2g} s; give at "
            f"least {needed:.2g} minutes ({least} steps), or a smaller --model or --config.pp.crop"
        )


def _config(choices: Sequence[Choice], overrides: Sequence[str]) -> Config:
    settings = {choice.setting: choice.value for choice in choices}
    config = merge(default_config(), settings, "finetune")
    apply_flags(config, overrides)
    validate(config)
    return config.lock()
