"""Batches on the device: from memory where a dataset fits there, else decoded by host threads.

A batch is a dict of arrays sharded over the mesh: `image` (b, h, w, 3) uint8 and `label` (b,), and
for training `epoch` and `index` (b,), for evaluation `mask` (b,), which is 0 for padding.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding

from vit_jax.data import decoding, sampling
from vit_jax.data.augment_host import example_generator, random_box
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import ArraySource, Source
from vit_jax.mesh import replicated

T = TypeVar("T")

Batch = dict[str, jax.Array]
Rows = dict[str, np.ndarray]  # what is known of a batch before decoding
Row = dict[str, int]  # one entry of it


@dataclasses.dataclass(frozen=True)
class Loading:
    """How batches are made, whatever the source.

    Attributes:
      preprocess: decides the size of streamed images, and of evaluation crops.
      sharding: of the batch axis over the mesh.
      seed: of the order and of the crops cut on the host.
      crop_area: share of the image that a training crop covers; None takes the whole image.
      threads: host threads that decode.
      prefetch: batches prepared ahead.
    """

    preprocess: Preprocess
    sharding: NamedSharding
    seed: int = 0
    crop_area: tuple[float, float] | None = None
    threads: int = 4
    prefetch: int = 2


class Feed:
    """One split of a dataset, as batches of one size.

    Attributes:
      batch: images a batch, over all processes.
      resident: whether the images lie on the device whole; then the crop is left to the step.
    """

    def __init__(self, source: Source, batch: int, loading: Loading):
        self.source, self.batch, self.loading = source, batch, loading
        self.resident = isinstance(source, ArraySource)
        self._rows = sampling.process_slice(batch, jax.process_index(), jax.process_count())
        if isinstance(source, ArraySource):
            whole = replicated(loading.sharding.mesh)
            self._images = jax.make_array_from_process_local_data(whole, source.images)
            self._gather = jax.jit(_gather, out_shardings=loading.sharding)

    def training(self, first: int, last: int) -> Iterator[Batch]:
        """Yields the batches of steps first … last - 1."""
        return self._batches(range(first, last), self._training_rows, self._training_image)

    def evaluation(self) -> Iterator[Batch]:
        """Yields every example once, in order, the last batch padded."""
        steps = range(sampling.evaluation_steps(self.batch, len(self.source)))
        return self._batches(steps, self._evaluation_rows, self._evaluation_image)

    def _training_rows(self, step: int) -> Rows:
        epochs, indices = sampling.training_rows(
            self.loading.seed, step, self.batch, len(self.source)
        )
        return {"epoch": epochs[self._rows], "index": indices[self._rows]}

    def _evaluation_rows(self, step: int) -> Rows:
        indices, mask = sampling.evaluation_rows(step, self.batch, len(self.source))
        return {"index": indices[self._rows], "mask": mask[self._rows]}

    def _batches(
        self, steps: range, rows: Callable[[int], Rows], image: Callable[[Row], np.ndarray]
    ) -> Iterator[Batch]:
        if self.resident or not steps:
            made = (self._resident_batch(rows(step)) for step in steps)
        else:
            decoded = _DecodedRows(steps, rows, image)
            made = (self._put(batch) for batch in decoded.batches(self.loading))
        return ahead(made, self.loading.prefetch)

    def _resident_batch(self, rows: Rows) -> Batch:
        batch = self._put(rows)
        return batch | {"image": self._gather(self._images, batch["index"])}

    def _put(self, rows: Rows) -> Batch:
        """Sends this process's rows to the devices that hold its share of the batch."""
        rows = {**rows, "label": self.source.labels[rows["index"]]}
        put = functools.partial(jax.make_array_from_process_local_data, self.loading.sharding)
        return {name: put(value) for name, value in rows.items()}

    def _training_image(self, row: Row) -> np.ndarray:
        image = self._decode(row["index"])
        area, preprocess = self.loading.crop_area, self.loading.preprocess
        if area is None:  # the central crop of `preprocess.resize` is for evaluation only
            return dataclasses.replace(preprocess, resize=None).pixels(image)
        generator = example_generator(self.loading.seed, row["epoch"], row["index"])
        box = random_box(generator, image.size, area)
        return decoding.crop_and_resize(image, box, preprocess.size, antialias=preprocess.antialias)

    def _evaluation_image(self, row: Row) -> np.ndarray:
        return self.loading.preprocess.pixels(self._decode(row["index"]))

    def _decode(self, index: int) -> Any:
        data, _ = self.source[index]
        return decoding.decode(data, self.source.name(index))


def hold(source: Source, limit: int, threads: int = 4) -> Source:
    """Returns the examples as an ArraySource if all have one size and fit in `limit` bytes.

    Otherwise the source comes back as it is. The size of the first image decides whether decoding
    the others is tried at all.
    """
    if isinstance(source, ArraySource):
        return source
    first = np.asarray(decoding.decode(source[0][0], source.name(0)))
    if first.nbytes * len(source) > limit:
        return source
    images = np.empty((len(source), *first.shape), np.uint8)

    def fill(index: int) -> bool:
        image = decoding.decode(source[index][0], source.name(index))
        if image.size != (first.shape[1], first.shape[0]):
            return False
        images[index] = np.asarray(image)
        return True

    if not _all_in_threads(fill, len(source), threads):
        return source
    return ArraySource(images, source.labels, source.class_names)


def _all_in_threads(function: Callable[[int], bool], count: int, threads: int) -> bool:
    """Returns whether function(0 … count - 1) are all true; stops soon after one is not."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, 1024):
            if not all(pool.map(function, range(start, min(start + 1024, count)))):
                return False
    return True


def _gather(images: jax.Array, indices: jax.Array) -> jax.Array:
    return images[indices]


class _DecodedRows:
    """The rows of some steps with their images, decoded when asked for: a Grain source."""

    def __init__(
        self, steps: range, rows: Callable[[int], Rows], image: Callable[[Row], np.ndarray]
    ):
        self._steps, self._image = steps, image
        self._rows = functools.lru_cache(maxsize=64)(rows)
        self._batch = len(rows(steps[0])["index"])

    def __len__(self) -> int:
        return len(self._steps) * self._batch

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, place = divmod(int(index), self._batch)
        row = {name: values[place] for name, values in self._rows(self._steps[step]).items()}
        return {**row, "image": self._image({name: int(value) for name, value in row.items()})}

    def batches(self, loading: Loading) -> Iterable[Rows]:
        """Returns whole batches in order, read ahead by Grain's threads."""
        ahead = grain.ReadOptions(
            num_threads=loading.threads,
            # Grain leaves threads idle, and says so, where it may hold fewer examples than threads.
            prefetch_buffer_size=max(loading.prefetch * self._batch, loading.threads),
        )
        return grain.MapDataset.source(self).to_iter_dataset(ahead).batch(self._batch)


def ahead(made: Iterable[T], count: int) -> Iterator[T]:
    """Yields what is made in order, with `count` more already under way, and never more."""
    waiting: collections.deque[T] = collections.deque()
    for one in made:
        waiting.append(one)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
