"""`vit_jax benchmark compile`: how long the programs of a run take to be made, cold and warm."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from vit_jax.benchmark import workload
from vit_jax.benchmark.figures import Figures
from vit_jax.benchmark.steps import describe, print_titled
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config
from vit_jax.planning.partitioned import collective_bytes
from vit_jax.runtime import memory
from vit_jax.tables import console, table

_CACHE_OPTIONS = {
    "jax_enable_compilation_cache": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@dataclasses.dataclass(frozen=True)
class ProgramTimes:
    """Seconds to make one program.

    Attributes:
      trace: Python's part: the function becomes JAX's own form of it.
      lower: that becomes StableHLO, the compiler's input.
      compile: that becomes a program of the device.
    """

    trace: float
    lower: float
    compile: float

    @property
    def total(self) -> float:
        """All three."""
        return self.trace + self.lower + self.compile


@dataclasses.dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
      cold, warm: its times with an empty persistent cache and with one that holds it, and nothing
        remembered in the process.
      operations: instructions of the compiled program.
      cached_bytes: what the persistent cache keeps of it on disk.
      collective_bytes: {"gather along fsdp": …}: what devices exchange when it runs once, as
        `planning.partitioned.collective_bytes` reads it off the program; empty for one device.
    """

    cold: ProgramTimes
    warm: ProgramTimes
    operations: int
    cached_bytes: int
    collective_bytes: dict[str, float]


@dataclasses.dataclass(frozen=True)
class CompileSpeed(Figures):
    """What `benchmark compile` found.

    Attributes:
      compile_seconds, warm_seconds: of all programs together, cold and warm.
      programs: {"train": …, "evaluation": …}: the training step, and that of evaluation.
      what: model, size, dtype and devices.
    """

    compile_seconds: float
    warm_seconds: float
    programs: dict[str, Program]
    what: dict[str, str]


def benchmark_compile(config: Config) -> CompileSpeed:
    """Makes the training step and the evaluation of a config, twice; neither is run.

    Everything that JAX has compiled in this process is forgotten on the way.

    Raises:
      ConfigError, DataError: as `train`.
    """
    experiment = workload.random_experiment(config)
    with (
        memory.for_training(config),
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder), keep=1) as store,
    ):
        run, state = workload.start(experiment, store)
        batch = workload.evaluation_batch(experiment)
        made: dict[str, tuple[Any, ...]] = {
            "train": (run.step, state, workload.training_batch(experiment)),
            "evaluation": (run.evaluate.rows, state.eval_variables(), batch),
        }
        mesh = experiment.mesh.shape
        programs = {name: _program(mesh, *parts) for name, parts in made.items()}
    return CompileSpeed(
        sum(program.cold.total for program in programs.values()),
        sum(program.warm.total for program in programs.values()),
        programs,
        describe(experiment),
    )


def _program(mesh: Mapping[str, int], function: Any, *arguments: Any) -> Program:
    with _empty_cache() as folder:
        cold, compiled = _make(function, arguments)
        kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        text = compiled.as_text()
        operations = sum(" = " in line for line in text.splitlines())
        del compiled
        warm, _ = _make(function, arguments)
    sent = collective_bytes(text, mesh)
    named = {f"{kind} along {axis}": float(size) for (kind, axis), size in sent.items()}
    return Program(cold, warm, operations, kept, named)


def _make(function: Any, arguments: tuple[Any, ...]) -> tuple[ProgramTimes, Any]:
    """Traces, lowers and compiles as a process does that has done nothing before."""
    jax.clear_caches()
    compilation_cache.reset_cache()
    seconds, made = [], function
    steps: tuple[Callable[[Any], Any], ...] = (
        lambda made: made.trace(*arguments),
        lambda made: made.lower(),
        lambda made: made.compile(),
    )
    for step in steps:
        start = time.perf_counter()
        made = step(made)
        seconds.append(time.perf_counter() - start)
    return ProgramTimes(*seconds), made


@contextlib.contextmanager
def _empty_cache() -> Iterator[Path]:
    """Gives JAX a persistent cache of its own while entered, whatever the user has set."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"jax_compilation_cache_dir": folder, **_CACHE_OPTIONS}
        before = {name: getattr(jax.config, name) for name in options}
        try:
            for name, value in options.items():
                jax.config.update(name, value)
            yield Path(folder)
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


def print_compile(speed: CompileSpeed) -> None:
    """Prints the figures as a table."""
    columns = ["trace", "lower", "compile", "all", "with a warm cache", "operations", "cached"]
    rows = table(None, ["program, seconds"], columns)
    for name, program in speed.programs.items():
        seconds = *dataclasses.astuple(program.cold), program.cold.total, program.warm.total
        size = f"{program.operations:,}", memory.shown(program.cached_bytes)
        rows.add_row(name, *(f"{value:.2f}" for value in seconds), *size)
    print_titled(speed.what, rows)
    for name, program in speed.programs.items():
        sent = (f"{memory.shown(size)} {how}" for how, size in program.collective_bytes.items())
        if what := ", ".join(sent):
            console().print(f"  {name}: devices exchange {what}", soft_wrap=True)
