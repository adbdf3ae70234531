"""A batch that fits: steps are compiled, and asked what they need, before anything is run.

The compiler's figure for a step holds parameters, optimiser, gradients, activations and the batch.
Where the whole batch does not fit, a small part of it is compiled too: two points give the line
"fixed + for each image", and that the number of parts. On a CPU more parts than that may be faster,
which is timed.
"""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.config import changed, differences
from vit_jax.data.augmentation import make_augmentation
from vit_jax.errors import ConfigError
from vit_jax.experiment import Experiment, make_model, make_preprocess
from vit_jax.mesh import batch_shards, device_bytes
from vit_jax.runtime import memory
from vit_jax.tasks import task_of
from vit_jax.training_program import TrainingProgram

# Of what is free; the rest is for what the compiler does not count. A process on a CPU was measured
# to grow by a sixth to a quarter more than its figure, and the decoder and other programs need
# room; an accelerator's kernels have workspace of their own.
USABLE = {"cpu": 0.7}
_USABLE_ELSEWHERE = 0.9
_TIMED = 2
# Images of a part whose activations a CPU's cache may hold, to be tried in turn; and how much of
# the time a step must save for it, above the noise of two timings (benchmarks/LOG.md).
_IN_CACHE = (8, 4)
_WORTH = 0.05
# What to try where one image is too much, in the order of what it costs the result.
# Outside of a loop XLA finds on CPUs that a block is computed twice, and keeps it after all.
_REMEDIES: tuple[dict[str, Any], ...] = (
    {"model.transformer.remat": "nothing_saveable", "model.scan_blocks": True},
    {"pp.crop": 224},
)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled training step.

    Attributes:
      call: `state, metrics = call(state, batch)`.
      arguments: shape, dtype and sharding of both.
      bytes: what it needs on each device, with the batches that are prepared ahead.
    """

    call: Any
    arguments: Any
    bytes: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """A batch in parts that fit.

    Attributes:
      accum_steps: the parts.
      program: the step of the run.
      free: bytes of a device; None where not known, and then nothing is divided.
      compiled: programs that had to be compiled to find it.
    """

    accum_steps: int
    program: Program
    free: int | None
    compiled: int


@dataclasses.dataclass(frozen=True)
class Timed(Fit):
    """A batch in parts whose step was timed.

    Attributes:
      seconds: of a step.
      saved: share of the time that more parts save than had to be.
    """

    seconds: float | int
    saved: float | int = 0.0


def fitted(experiment: Experiment, free: int | None, *, parts: int | None = None) -> Fit:
    """Returns the fewest parts of the batch that fit into the memory of a device.

    Args:
      experiment: of the run, with a batch that its devices can share.
      free: bytes of a device that are free.
      parts: `accum_steps` that are asked for; None chooses them.

    Raises:
      ConfigError: not one image for each device fits; or these parts do not.
    """
    start = parts or 1
    program = step_of(experiment, start)
    if free is None or program.bytes <= usable(free):
        return Fit(start, program, free, 1)
    if parts is not None:
        raise ConfigError(
            f"config.batch={experiment.config.batch} in config.accum_steps={parts} parts needs "
            f"{_room(program.bytes, free)}; raise accum_steps"
        )
    options = _parts(experiment)
    smallest = step_of(experiment, options[-1]) if options[-1] > 1 else program
    if smallest.bytes > usable(free):
        raise ConfigError(_what_would_fit(experiment, smallest.bytes, free))
    first, made = _by_line(experiment, program, smallest, usable(free)), 2
    for count in options[options.index(first) :]:
        chosen = smallest if count == options[-1] else step_of(experiment, count)
        made += chosen is not smallest
        if chosen.bytes <= usable(free):
            return Fit(count, chosen, free, made)
    raise AssertionError("the smallest part fits")


def timed(experiment: Experiment, fit: Fit, *, divide: bool) -> Timed:
    """Returns a fit with the time of its step; where that is less on a CPU, in more parts.

    Batch statistics are those of a part, so that a model which has them is not divided further.

    Args:
      experiment: of the run.
      fit: the fewest parts that fit.
      divide: whether more parts may be chosen.
    """
    fewest = least = seconds_of(fit.program)
    best = Timed(**vars(fit), seconds=fewest)
    if not divide or jax.default_backend() != "cpu" or fit.program.arguments[0].batch_stats:
        return best
    for images in _IN_CACHE:
        parts = _parts_of(experiment, images)
        if parts is None or parts <= best.accum_steps:
            continue
        program = step_of(experiment, parts)
        best = dataclasses.replace(best, compiled=best.compiled + 1)
        if fit.free is not None and program.bytes > usable(fit.free):
            continue  # parts are summed, and the sums are a second copy of the gradients
        seconds = seconds_of(program)
        if seconds > (1 - _WORTH) * least:
            break
        least, saved = seconds, 1 - seconds / fewest
        best = Timed(parts, program, fit.free, best.compiled, seconds, saved)
    return best


def usable(free: int) -> float | int:
    """Returns how many of the free bytes of a device a step may take."""
    return USABLE.get(jax.default_backend(), _USABLE_ELSEWHERE) * free


def _parts(experiment: Experiment) -> list[int]:
    """Returns the numbers of equal parts that the devices can share, ascending.

    Images are mixed with others of their part, which then has two at least.
    """
    size, shards = experiment.config.batch, batch_shards(experiment.mesh)
    plan = make_augmentation(experiment.config.augment.to_dict())
    most = size // (2 if plan.mixup or plan.cutmix else 1)
    return [n for n in range(1, most + 1) if size % n == 0 and size // n % shards == 0]


def _parts_of(experiment: Experiment, images: int) -> int | None:
    """Returns the fewest parts that have at most so many images a device; None if none do."""
    config, shards = experiment.config, batch_shards(experiment.mesh)
    return next((n for n in _parts(experiment) if config.batch // n // shards <= images), None)


def _by_line(experiment: Experiment, whole: Program, smallest: Program, room: float | int) -> int:
    """Returns the fewest parts that a line through two programs lets fit.

    Parts are summed: from two on there is a second copy of the gradients, which the whole lacks.
    """
    options, size = _parts(experiment), experiment.config.batch
    sums = device_bytes(smallest.arguments[0].params)
    small = size // options[-1]
    each = max(whole.bytes + sums - smallest.bytes, 0) / max(size - small, 1)
    fits = (n for n in options[1:] if smallest.bytes + each * (size / n - small) <= room)
    return next(fits, options[-1])


def step_of(experiment: Experiment, parts: int) -> Program:
    """Compiles the training step that the run takes, its batch in so many parts; runs nothing."""
    config = changed(experiment.config, {"accum_steps": parts})
    program = TrainingProgram(task_of(dataclasses.replace(experiment, config=config)))
    call = program.compile()
    ahead = config.prefetch * device_bytes(program.batch)
    return Program(call, (program.state, program.batch), memory.bytes_of_program(call) + ahead)


def seconds_of(program: Program) -> float | int:
    """Returns the seconds of a step, its batch on the devices: the faster of two, after a first."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.arguments)

    def zeros() -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), program.arguments)

    state, batch = jax.jit(zeros, out_shardings=shardings)()
    found = []
    for _ in range(1 + _TIMED):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program.call(state, batch))
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _what_would_fit(experiment: Experiment, needed: int, free: int) -> str:
    """Returns what to say where one image a device is too much: the least that would help."""
    config = experiment.config
    images = config.batch // _parts(experiment)[-1] // batch_shards(experiment.mesh)
    count = "one image" if images == 1 else f"{images} images"
    size = f"{count} of {config.pp.crop} px on each device"
    for changes in _REMEDIES:
        if differences(changed(config, changes), config) == {} or (
            config.pp.crop <= changes.get("pp.crop", 0)
        ):
            continue
        try:
            smaller = _altered(experiment, changes)
            found = step_of(smaller, _parts(smaller)[-1]).bytes
        except ConfigError:  # blocks that differ are no loop, and a Mixer has no such blocks
            continue
        if found <= usable(free):
            flags = " ".join(f"--config.{flag}={value}" for flag, value in changes.items())
            return (
                f"{size} needs {_room(needed, free)}; {flags} would fit, with {memory.shown(found)}"
            )
    return f"{size} needs {_room(needed, free)}; give a smaller --model, such as vit_ti16"


def _altered(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    config = changed(experiment.config, changes)
    model = make_model(config, len(experiment.class_names))
    return dataclasses.replace(
        experiment, config=config, model=model, preprocess=make_preprocess(config)
    )


def _room(needed: int, free: int) -> str:
    share = usable(free) / free
    return (
        f"{memory.shown(needed)}, and {share:.0%} of the {memory.shown(free)} that are free on it "
        f"are {memory.shown(usable(free))}"
    )
