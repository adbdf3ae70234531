"""`vit_jax benchmark input`: batches of a config, made alone and while training."""

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import jax
import numpy as np

from vit_jax.benchmark import workload
from vit_jax.benchmark.figures import Figures
from vit_jax.benchmark.timing import repetitions
from vit_jax.checkpoints.store import Store
from vit_jax.config import Config
from vit_jax.data.augment_host import BOX_NUMBERS, example_numbers, random_box
from vit_jax.data.decoding import decode_pixels, training_crop
from vit_jax.data.pipeline import Batch, Feed
from vit_jax.experiment import Experiment, build
from vit_jax.finetune import settled
from vit_jax.records.loggers import Throughput
from vit_jax.runtime import signals
from vit_jax.tables import console, table

_ENDLESS = 10**9  # steps: more than anybody waits for


@dataclasses.dataclass(frozen=True)
class SplitSpeed:
    """Batches of one split, made for a device that does nothing else.

    Attributes:
      images_per_second: by the clock.
      images_per_second_per_core: by the processor time of all threads.
      bytes_to_device_per_image: pixels, where they are sent, label and row numbers.
    """

    images_per_second: float
    images_per_second_per_core: float
    bytes_to_device_per_image: float


@dataclasses.dataclass(frozen=True)
class InputSpeed(Figures):
    """What `benchmark input` found.

    Attributes:
      images_per_second, bytes_to_device_per_image: of training batches, as in `splits`.
      wait_fraction: share of the time of training steps in which the loop stood waiting for a
        batch, which is the most that the device can have waited.
      training_images_per_second: of these steps.
      resident: whether the images lie on the device whole.
      resident_bytes: what was sent there at the start.
      splits: {"train": …, "test": …}.
      stages: {stage: milliseconds of one core for a training image}; empty where images are not
        decoded while training.
    """

    images_per_second: float
    bytes_to_device_per_image: float
    wait_fraction: float
    training_images_per_second: float
    resident: bool
    resident_bytes: int
    splits: dict[str, SplitSpeed]
    stages: dict[str, float]


def benchmark_input(config: Config, seconds: float = 5.0) -> InputSpeed:
    """Measures the input pipeline of a config, alone and in training steps that are really taken.

    Args:
      config: all settings.
      seconds: how long each of its measurements takes, at least.

    Raises:
      ConfigError, DataError: as `train`.
    """
    workload.check_seconds(seconds)
    experiment = build(settled(config))
    train, test = experiment.train, experiment.test
    splits = {
        "train": _speed(train, lambda: train.training(0, _ENDLESS), seconds),
        "test": _speed(test, test.evaluation, seconds),
    }
    running = _training(experiment, seconds)
    return InputSpeed(
        images_per_second=splits["train"].images_per_second,
        bytes_to_device_per_image=splits["train"].bytes_to_device_per_image,
        wait_fraction=running["wait_fraction"],
        training_images_per_second=running["images_per_second"],
        resident=train.resident,
        resident_bytes=train.resident_bytes + test.resident_bytes,
        splits=splits,
        stages={} if train.resident else _stages(train, seconds),
    )


def _speed(feed: Feed, start: Callable[[], Iterator[Batch]], seconds: float) -> SplitSpeed:
    """Takes batches until the time is over; a split that ends before is begun again."""
    batches = itertools.chain.from_iterable(start() for _ in itertools.count())
    for _ in range(feed.loading.prefetch + 2):  # compiled, and as far ahead as it will be
        jax.block_until_ready(next(batches))
    images, (sent, rows) = 0, (feed.sent_bytes, feed.sent_rows)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in repetitions(seconds, 1):
        jax.block_until_ready(next(batches))
        images += feed.batch
    return SplitSpeed(
        images / (time.perf_counter() - clock),
        images / max(time.process_time() - processor, 1e-9),
        (feed.sent_bytes - sent) / max(feed.sent_rows - rows, 1),
    )


def _training(experiment: Experiment, seconds: float) -> dict[str, float]:
    """Takes training steps as the loop of `train` does, and returns what its log would say."""
    speed, before, end = Throughput(), None, 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder), keep=1) as store,
        contextlib.closing(_timed(experiment.train, speed)) as batches,
    ):
        run, state = workload.start(experiment, store)
        for step, batch in enumerate(batches):
            state, measured = run.step(state, batch)
            speed.count(experiment.train.batch)  # each reading waits for all steps before it
            jax.device_get(before)  # the metrics of the step before, as in the loop
            before = measured
            if step == 1:  # the first step was compiled
                jax.block_until_ready(state)
                speed.read()
                end = time.perf_counter() + seconds
            signals.obey()
            if step > 2 and time.perf_counter() > end:
                break
        jax.block_until_ready(state)
    return speed.read()


def _timed(feed: Feed, speed: Throughput) -> Generator[Batch, None, None]:
    batches = feed.training(0, _ENDLESS)
    while True:
        start = time.perf_counter()
        batch = next(batches)
        speed.wait(time.perf_counter() - start)
        yield batch


def _stages(feed: Feed, seconds: float) -> dict[str, float]:
    """Returns the milliseconds that each stage of a training image takes on one core."""
    source, preprocess = feed.source, feed.loading.preprocess
    area, rule = feed.loading.crop_area or (1.0, 1.0), feed.loading.crop_rule
    out = np.empty((*preprocess.size, 3), np.uint8)
    marks, end = [], time.perf_counter() + seconds
    for index in itertools.cycle(np.random.default_rng(0).permutation(len(source)).tolist()):
        start = time.thread_time()
        data, _ = source[index]
        read = time.thread_time()
        pixels = decode_pixels(data, source.name(index))
        decoded = time.thread_time()
        numbers, size = example_numbers(BOX_NUMBERS, 0, 0, index), pixels.shape[1::-1]
        box = random_box(numbers, size, area, rule)
        training_crop(pixels, box, out, antialias=preprocess.antialias)
        marks.append((start, read, decoded, time.thread_time()))
        if time.perf_counter() > end:
            break
    means = 1000 * np.diff(marks, axis=1).mean(axis=0)
    return dict(zip(("read", "decode", "crop"), means.tolist(), strict=True))


def print_input(speed: InputSpeed) -> None:
    """Prints the figures as tables."""
    out = console()
    rows = table(None, ["split"], ["images/s", "images/s a core", "bytes to the device an image"])
    for name, split in speed.splits.items():
        rows.add_row(name, *(f"{number:,.0f}" for number in dataclasses.astuple(split)))
    out.print(rows)
    if speed.resident:
        out.print(f"  images on the device whole: {speed.resident_bytes:,} bytes, sent once")
    if speed.stages:
        parts = ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in speed.stages.items())
        out.print(f"  a training image, on one core: {parts}", soft_wrap=True)
    out.print(
        f"  training steps: {speed.training_images_per_second:,.0f} images/s, of whose time "
        f"{speed.wait_fraction:.1%} was spent waiting for input",
        soft_wrap=True,
    )
