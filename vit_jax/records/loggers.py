"""What a run tells a person: a progress bar or plain lines, and metrics on their way to a file."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import rich.console
import rich.progress
import rich.table

from vit_jax.records.metrics_file import MetricsFile
from vit_jax.records.scores import describe
from vit_jax.runtime import output, watchdog

Check = Callable[[int, dict[str, Any]], None]


class Throughput:
    """Images a second and the share of time spent waiting for input, between two readings.

    What happens between `pause` and `resume` (compilation, evaluation, saving) does not count.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._images, self._waited = 0, 0.0
        self._start = self._paused = time.perf_counter()

    def wait(self, seconds: float) -> None:
        """Adds the time that a batch took to come."""
        self._waited += seconds

    def count(self, images: int) -> None:
        """Adds a step of so many images, which has ended."""
        self._images += images

    def pause(self) -> None:
        """Stops the clock."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """Lets the clock run on as if no time had passed since `pause`."""
        self._start += time.perf_counter() - self._paused

    def read(self) -> dict[str, float]:
        """Returns both figures since the last reading."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        figures = {
            "images_per_second": self._images / seconds,
            "wait_fraction": min(self._waited / seconds, 1.0),
        }
        self._reset()
        return figures


class Console:
    """Tells a person how a run goes: a progress bar on a terminal, plain lines elsewhere.

    Args:
      quiet: says nothing at all, as processes other than the first do.
    """

    plain_seconds = 5.0  # between two plain lines

    def __init__(self, *, quiet: bool = False):
        self._out = rich.console.Console(file=output.lasting(), quiet=quiet, highlight=False)
        self._bar: rich.progress.Progress | None = None
        self._last_plain = 0.0
        self._first, self._total, self._since = 0, 0, time.perf_counter()

    def say(self, text: str) -> None:
        """Prints a line as it is, however wide."""
        self._out.print(text, markup=False, soft_wrap=True)

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Prints a table of names and values."""
        table = rich.table.Table(title=title, title_justify="left", show_header=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        self._out.print(table)

    @contextlib.contextmanager
    def showing(self, first: int, total: int) -> Iterator[None]:
        """Shows progress from step `first` to `total` while entered."""
        self._first, self._total, self._since = first, total, time.perf_counter()
        if not self._out.is_terminal:
            yield
            return
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("[cyan]step {task.completed:.0f}/{task.total:.0f}"),
            rich.progress.BarColumn(bar_width=None),
            rich.progress.TextColumn("{task.fields[shown]}"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=self._out,
        )
        self._task = self._bar.add_task("", total=total, completed=first, shown="compiling")
        with self._bar:
            yield
        self._bar = None

    def progress(self, step: int, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Shows how the training step went."""
        shown = (
            f"loss {values['loss']:.3f}  accuracy {100 * values['accuracy']:5.1f} %  "
            f"{timing['images_per_second']:,.0f} img/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, shown=shown)
        elif time.perf_counter() - self._last_plain >= self.plain_seconds:
            self._last_plain = time.perf_counter()
            self.say(f"step {step}/{self._total}  {shown}  {self._left(step)} left")

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Shows an evaluation."""
        self.say(f"step {step}/{self._total}  {describe(scores)}")

    def _left(self, step: int) -> str:
        pace = (time.perf_counter() - self._since) / max(step - self._first, 1)
        return clock(pace * (self._total - step))


class Recorder:
    """Metrics of a run on their way to the file and the console.

    Those of a step are fetched while the next one runs, so that the device never waits for them.

    Args:
      file: where each line goes.
      console: what a person sees.
      total: steps of the run; the last one is always recorded.
      every: steps between two records.
      batch: images a step.
      skipped: returns how many images could not be read so far; it joins `timing`, as it depends
        on how far ahead images are read.
      checks: are called with each step and what it measured, before it is recorded; they may take
        entries out, add some, or raise.
    """

    def __init__(
        self,
        file: MetricsFile,
        console: Console,
        total: int,
        every: int,
        batch: int,
        skipped: Callable[[], int] = lambda: 0,
        checks: Sequence[Check] = (),
    ):
        self._file, self._console, self._skipped = file, console, skipped
        self._total, self._every, self._batch = total, every, batch
        self._checks = checks
        self._speed = Throughput()
        self._waiting: tuple[int, Mapping[str, jax.Array]] | None = None
        self._started = False

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches, and counts how long each took to come."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._speed.wait(time.perf_counter() - start)
            watchdog.alive()
            yield batch

    def push(self, step: int, measured: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of a step just dispatched, and records those of the one before.

        Raises:
          VitJaxError: a check found fault with the step before.
        """
        before, self._waiting = self._waiting, (step, measured)
        if before is not None:
            self._record(*before)
        elif not self._started:
            self._speed.read()  # the first step was compiled, which is no part of its speed
            self._started = True

    def settle(self) -> None:
        """Waits for the last step pushed, and records it; raises as `push` does."""
        before, self._waiting = self._waiting, None
        if before is not None:
            self._record(*before)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Settles, and leaves what happens inside out of the throughput."""
        self.settle()
        self._speed.pause()
        yield
        self._speed.resume()

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Records an evaluation."""
        named = {f"test_{name}": value for name, value in scores.items()}
        self._file.write(step, _finite(named))
        self._console.scores(step, scores)

    def _record(self, step: int, measured: Mapping[str, jax.Array]) -> None:
        fetched = dict(jax.device_get(measured))
        self._speed.count(self._batch)
        for check in self._checks:
            check(step, fetched)
        # A jitted step returns its metrics in alphabetical order; people look for the loss.
        values = {name: float(fetched[name]) for name in sorted(fetched, key=_loss_first)}
        if step % self._every == 0 or step == self._total:
            timing = self._speed.read()
            if skipped := self._skipped():
                timing["skipped_images"] = skipped
            self._file.write(step, _finite(values), timing)
            self._console.progress(step, values, timing)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the values that JSON knows: a step that was skipped may have others."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _loss_first(name: str) -> tuple[bool, str]:
    return name != "loss", name


def clock(seconds: float) -> str:
    """Returns a duration as 0:07, 12:30 or 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
