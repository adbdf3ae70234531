"""`vit_jax benchmark save`: how long a checkpoint holds training up, and takes to come back."""

import contextlib
import dataclasses
import functools
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from vit_jax import trees
from vit_jax.benchmark import workload
from vit_jax.benchmark.figures import Figures
from vit_jax.benchmark.steps import describe, print_titled
from vit_jax.benchmark.timing import MIN_STEPS, Spread, repetitions, spread, timed
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config
from vit_jax.data.pipeline import Batch
from vit_jax.errors import ConfigError
from vit_jax.run import Run
from vit_jax.runtime import memory
from vit_jax.state import TrainState
from vit_jax.tables import table

MIN_SAVES = 3
_SAMPLE_SECONDS = 0.002


@dataclasses.dataclass(frozen=True)
class SaveSpeed(Figures):
    """What `benchmark save` found.

    Attributes:
      stall_seconds: the median of what `train` stands still for at a save: until the call returns
        and the next step may overwrite the state.
      first_stall_seconds: that of the first save of a process, which makes the writer.
      stall: all but the first.
      step_seconds: the median of a training step, on the same devices just before.
      stall_share: of the time of training, with a save every `checkpoint_every` steps.
      commit: seconds from the call until the checkpoint is written, sealed and counts; of all.
      restore_seconds: to verify and read it, until it is on the devices again.
      state_bytes: of the state: parameters, optimiser, and the average of parameters if it is on.
      disk_bytes: of the checkpoint's files.
      peak_memory_bytes: the most that this process held on the host during saves, above what it
        held before the first; None where the system does not tell.
      saves: how many there were.
      what: model, size, dtype and devices.
    """

    stall_seconds: float
    first_stall_seconds: float
    stall: Spread
    step_seconds: float
    stall_share: float
    commit: Spread
    restore_seconds: float
    state_bytes: int
    disk_bytes: int
    peak_memory_bytes: int | None
    saves: int
    what: dict[str, str]


def benchmark_save(config: Config, seconds: float = 5.0, workdir: str | None = None) -> SaveSpeed:
    """Saves the state of a config's run again and again, as `train` does, and restores it once.

    Args:
      config: all settings; see `workload.random_experiment` for what stands in for the data.
      seconds: for saves, of which there are three at least, and one before them.
      workdir: a folder on the disk to measure, in which a temporary one is made; None takes the
        system's place for temporary files.

    Raises:
      ConfigError, DataError: as `train`; also if `workdir` is no folder.
      CheckpointError: a save failed.
    """
    workload.check_seconds(seconds)
    place = None if workdir is None else Path(workdir).expanduser()
    if place is not None and place.exists() and not place.is_dir():
        raise ConfigError(f"--workdir={workdir}: is a file; name a folder")
    experiment = workload.random_experiment(config)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    with (
        memory.for_training(config),
        tempfile.TemporaryDirectory(dir=place, prefix="benchmark_") as folder,
        Store(Path(folder), keep=1) as store,
    ):
        run, state = workload.start(experiment, store)
        state, steps = _stepped(run, state, workload.training_batch(experiment))
        state = jax.block_until_ready(workload.noisy(state))
        with _resident_bytes() as held:
            stalls, commits = _save(store, run, state, seconds)
        restoring = _restoring_seconds(store, state)
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        usual, step = spread(stalls[1:]), spread(steps).median
        return SaveSpeed(
            stall_seconds=usual.median,
            first_stall_seconds=stalls[0],
            stall=usual,
            step_seconds=step,
            stall_share=usual.median / (config.checkpoint_every * step + usual.median),
            commit=spread(commits),
            restore_seconds=restoring,
            state_bytes=trees.nbytes(state),
            disk_bytes=sum(file.stat().st_size for file in files),
            peak_memory_bytes=max(held) - held[0] if held else None,
            saves=len(stalls),
            what=describe(experiment),
        )


def _stepped(run: Run, state: TrainState, batch: Batch) -> tuple[TrainState, list[float]]:
    """Takes steps, the first of which is compiled; returns the state, and how long others took."""
    taken = []
    for _ in range(1 + MIN_STEPS):
        seconds, (state, _) = timed(functools.partial(run.step, state, batch))
        taken.append(seconds)
    return state, taken[1:]


def _save(
    store: Store, run: Run, state: TrainState, seconds: float
) -> tuple[list[float], list[float]]:
    """Returns, for each save, the seconds until the call returned, and until it was committed."""
    stalls, commits = [], []
    for number in repetitions(seconds, MIN_SAVES + 1):
        start = time.perf_counter()
        store.save(number, state, run.metadata() | run.sealed(state))
        stalls.append(time.perf_counter() - start)
        store.wait()
        commits.append(time.perf_counter() - start)
    return stalls, commits


def _restoring_seconds(store: Store, state: TrainState) -> float:
    shapes = trees.shapes(state)
    seconds, restored = timed(lambda: store.restore(shapes))
    assert restored is not None  # the saves above were waited for
    return seconds


@contextlib.contextmanager
def _resident_bytes() -> Iterator[list[int]]:
    """Gives a list that fills, from entering to leaving, with what this process holds in memory.

    It stays empty where the system does not tell.
    """
    held: list[int] = []
    done, file = threading.Event(), Path("/proc/self/statm")
    if not file.exists():
        yield held
        return
    import resource

    def look() -> None:
        held.append(int(file.read_text().split()[1]) * resource.getpagesize())

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            look()

    look()
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield held
    finally:
        done.set()
        sampler.join()
        look()  # on a busy machine the sampler may not have had its turn


def print_save(speed: SaveSpeed) -> None:
    """Prints the figures as a table."""
    rows = table(None, ["figure"], ["value"])
    rows.add_row("state", memory.shown(speed.state_bytes))
    rows.add_row("on disk", memory.shown(speed.disk_bytes))
    rows.add_row("training stands still, seconds", str(speed.stall))
    rows.add_row("at the first save", f"{speed.first_stall_seconds:.3f}")
    rows.add_row("a step, seconds", f"{speed.step_seconds:.3f}")
    rows.add_row("share of the time that it stands still", f"{speed.stall_share:.2%}")
    rows.add_row("until it counts, seconds", str(speed.commit))
    rows.add_row("to restore it, seconds", f"{speed.restore_seconds:.3f}")
    extra = speed.peak_memory_bytes
    rows.add_row("memory on the host", "not known" if extra is None else memory.shown(extra))
    rows.add_row("saves", f"{speed.saves}")
    print_titled(speed.what, rows)
