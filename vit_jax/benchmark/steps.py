"""Steps over images, of training or of inference: their rate, memory and start, and a table."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.table

from vit_jax import trees
from vit_jax.benchmark.figures import Figures
from vit_jax.benchmark.peak import matmul_peak
from vit_jax.benchmark.timing import Repeated, Spread, spread, step_seconds, timed
from vit_jax.experiment import Experiment
from vit_jax.models.summary import summarize
from vit_jax.origin import describe_model
from vit_jax.runtime import memory
from vit_jax.step import Batch
from vit_jax.tables import console, table


@dataclasses.dataclass(frozen=True)
class StepSpeed(Figures):
    """What `benchmark train` and `benchmark infer` found.

    Attributes:
      images_per_second: of all devices together.
      fraction_of_peak: FLOP/s of the steps, by formula, over `matmul_flops_per_second`.
      peak_memory_bytes: the most that one device held, up to the last step.
      memory_counted_by: "device", or "compiled program": what the compiler says of one step's
        arguments, results and temporary values, where the device does not count.
      seconds_to_first_step: from the start of the command, imports included (in Python from the
        call), until the first step was done.
      compile_seconds: to trace, lower and compile the step, or to read it from a cache: the first
        call, less a step.
      step_ms, steps: milliseconds of the steps that were timed, and how many.
      batch: images a step.
      flops_per_image: floating-point operations, by formula: see `models.summary`; a training
        step is counted as three forward passes.
      bytes_accessed: by a step's operations on one device, each of its operands and its result, as
        the compiler counts, which knows no caches; None where it does not count.
      matmul_flops_per_second: of all devices at large matrix products, measured after the steps.
      what: model, size, dtype and devices.
    """

    images_per_second: float
    fraction_of_peak: float
    peak_memory_bytes: int
    memory_counted_by: str
    seconds_to_first_step: float
    compile_seconds: float
    step_ms: Spread
    steps: int
    batch: int
    flops_per_image: int
    bytes_accessed: float | None
    matmul_flops_per_second: float
    what: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Work:
    """Steps to measure.

    Attributes:
      experiment: whose model and devices they have.
      program: the jitted function `program(state, batch)`.
      step: `state, result = step(state)`, which calls it.
      state, batch: what it starts from, on the devices.
      images: of a batch.
      forward_passes: whose FLOPs a step has.
    """

    experiment: Experiment
    program: Any
    step: Repeated
    state: Any
    batch: Batch
    images: int
    forward_passes: int


def measure(work: Work, seconds: float, started: float) -> StepSpeed:
    """Takes steps for so many seconds, three at least, and then measures the matrix peak.

    Args:
      work: the steps.
      seconds: of timed steps.
      started: when the user began to wait, by `time.perf_counter`.
    """
    experiment = work.experiment
    shapes = trees.shapes((work.state, work.batch))  # the state is donated
    first, (state, _) = timed(lambda: work.step(work.state))
    to_first = time.perf_counter() - started
    times = step_seconds(work.step, state, seconds)
    compiled = work.program.lower(*shapes).compile()
    held, counter = memory.peak_bytes(), "device"
    if held is None:
        held, counter = memory.bytes_of_program(compiled), "compiled program"
    rate = work.images * len(times) / sum(times)
    size = experiment.preprocess.size
    flops = work.forward_passes * summarize(experiment.model, size).flops
    peak = matmul_peak(experiment.mesh, jnp.dtype(experiment.model.dtype), min(seconds, 2.0))
    return StepSpeed(
        images_per_second=rate,
        fraction_of_peak=rate * flops / peak,
        peak_memory_bytes=held,
        memory_counted_by=counter,
        seconds_to_first_step=to_first,
        compile_seconds=max(0.0, first - float(np.median(times))),
        step_ms=spread(times, 1000.0),
        steps=len(times),
        batch=work.images,
        flops_per_image=flops,
        bytes_accessed=(compiled.cost_analysis() or {}).get("bytes accessed"),
        matmul_flops_per_second=peak,
        what=describe(experiment),
    )


def describe(experiment: Experiment) -> dict[str, str]:
    """Returns model, image size, dtype and devices in words."""
    height, width = experiment.preprocess.size
    return {
        "model": describe_model(experiment.model),
        "size": f"{height}×{width} px",
        "dtype": jnp.dtype(experiment.model.dtype).name,
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
    }


def print_steps(speed: StepSpeed) -> None:
    """Prints the figures as a table."""
    rows = table(None, ["figure"], ["value"])
    rows.add_row("images/s", f"{speed.images_per_second:,.1f}")
    rows.add_row(f"step of {speed.batch} images, ms", str(speed.step_ms))
    rows.add_row("steps timed", f"{speed.steps:,}")
    rows.add_row("GFLOP an image, by formula", f"{speed.flops_per_image / 1e9:,.3f}")
    rows.add_row("matrix products, GFLOP/s", f"{speed.matmul_flops_per_second / 1e9:,.0f}")
    rows.add_row("fraction of these reached", f"{speed.fraction_of_peak:.1%}")
    held = memory.shown(speed.peak_memory_bytes)
    rows.add_row(f"peak memory, by the {speed.memory_counted_by}", held)
    rows.add_row("seconds to compile", f"{speed.compile_seconds:.2f}")
    rows.add_row("seconds to the first step", f"{speed.seconds_to_first_step:.2f}")
    print_titled(speed.what, rows)


def print_titled(what: dict[str, str], rows: rich.table.Table) -> None:
    """Prints what was measured in a line, however wide, and the table."""
    out = console()
    out.print(", ".join(what.values()), soft_wrap=True)
    out.print(rows)
