"""Batches on the device: from memory where a dataset fits there, else decoded by host threads.

A batch is a dict of arrays sharded over the mesh: `image` (b, h, w, 3) uint8 and `label` (b,), and
for training `epoch` (b,), which is how often the example came before, and `index` (b,), for
evaluation `mask` (b,), which is 0 for padding. With captions, training has `tokens` (b, n) too.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vit_jax.data import decoding, sampling
from vit_jax.data.augment_host import (
    ALTER,
    BOX_NUMBERS,
    example_generator,
    example_numbers,
    random_box,
)
from vit_jax.data.balanced import ClassBalance
from vit_jax.data.filling import Rows, ahead, filled
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.reading import Reader
from vit_jax.data.sources import ArraySource, Source
from vit_jax.mesh import local_rows, replicated
from vit_jax.runtime import memory

Batch = dict[str, jax.Array]
Row = dict[str, int]  # one row of a batch, before decoding
# Adds what is known of it after decoding; its image may be written where it belongs, the array.
Decoder = Callable[[Row, np.ndarray], dict[str, Any]]
Alter = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # changes an image at random
Texting = Callable[[Rows], np.ndarray]  # the tokens (b, n) of the captions of rows

_ALIGNMENT = 64  # bytes


@dataclasses.dataclass(frozen=True)
class Loading:
    """How batches are made, whatever the source.

    Attributes:
      preprocess: decides the size of streamed images, and of evaluation crops.
      sharding: of the batch axis over the mesh.
      seed: of the order and of the crops cut on the host.
      crop_area: share of the image that a training crop covers; None takes the whole image.
      crop_rule: how its sides are drawn (`random_box`).
      alter: what else the host does to a training image, after crop and resize; None nothing.
      balanced: whether training takes every class as often as any other.
      repeats: copies of each image in a training batch.
      drop_remainder: whether evaluation leaves out the last batch if it is not full.
      threads: host threads that decode.
      prefetch: batches prepared ahead.
      resident_limit: bytes that images in memory may take to be kept on the device; None any.
      bad_limit: unreadable images that are skipped before one is an error; None skips none.
      texts: makes the tokens of a training batch, from what else is known of its rows; None where
        images have no captions.
    """

    preprocess: Preprocess
    sharding: NamedSharding
    seed: int = 0
    crop_area: tuple[float, float] | None = None
    crop_rule: str = "torchvision"
    alter: Alter | None = None
    balanced: bool = False
    repeats: int = 1
    drop_remainder: bool = False
    threads: int = 4
    prefetch: int = 2
    resident_limit: int | None = None
    bad_limit: int | None = None
    texts: Texting | None = None


class Feed:
    """One split of a dataset, as batches of one size.

    Attributes:
      batch: images a batch, over all processes.
      resident: whether the images lie on the device whole; then the crop is left to the step. Not
        so where the host is to alter them.
      resident_bytes: what these images took to send; 0 for others.
      sent_bytes, sent_rows: what this process has sent to its devices since, batch by batch.
    """

    def __init__(self, source: Source, batch: int, loading: Loading):
        self.source, self.batch, self.loading = source, batch, loading
        self.resident = _may_stay(source, loading)
        self._balance = ClassBalance(source.labels) if loading.balanced else None
        self.sent_bytes = self.sent_rows = self.resident_bytes = 0
        self._reader = Reader(source, loading.bad_limit)
        self._rows = local_rows(loading.sharding, batch)
        if isinstance(source, ArraySource) and self.resident:
            whole = replicated(loading.sharding.mesh)
            self.resident_bytes = held = source.images.nbytes
            what = f"{len(source):,} images, kept on the device whole ({memory.shown(held)}),"
            with memory.explained(what, f"give a config.cache_bytes below {held}"):
                self._images = jax.make_array_from_process_local_data(whole, source.images)
            self._gather = jax.jit(_gather, out_shardings=loading.sharding)

    @property
    def skipped(self) -> int:
        """Number of images found unreadable so far, in this process."""
        if isinstance(self.source, ArraySource) and self.source.stand_ins is not None:
            return int((self.source.stand_ins != np.arange(len(self.source))).sum())
        return self._reader.skipped

    @property
    def scored(self) -> int:
        """Number of examples that `evaluation` yields; those that cannot be read are among them."""
        return min(len(self.source), self._evaluation_steps * self.batch)

    @property
    def _evaluation_steps(self) -> int:
        size, drop = len(self.source), self.loading.drop_remainder
        return sampling.evaluation_steps(self.batch, size, drop)

    def training(self, first: int, last: int) -> Iterator[Batch]:
        """Yields the batches of steps first … last - 1.

        In the place of an image that cannot be read stands the next one that can, with its label.
        """
        return self._batches(range(first, last), self._training_rows, self._training_example)

    def training_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shape, dtype and sharding of the batches of `training`; reads no image."""
        size = self.loading.preprocess.size
        if isinstance(self.source, ArraySource) and self.resident:
            size = self.source.images.shape[1:3]

        def rows(*shape: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
            shape = (self.batch, *shape)
            return jax.ShapeDtypeStruct(shape, dtype, sharding=self.loading.sharding)

        shapes = {name: rows() for name in ("label", "epoch", "index")}
        if self.loading.texts is not None:
            tokens = self.loading.texts({name: np.zeros(1, np.int32) for name in shapes})
            shapes["tokens"] = rows(*tokens.shape[1:], dtype=tokens.dtype)
        return shapes | {"image": rows(*size, 3, dtype=np.uint8)}

    def training_indices(self, step: int) -> np.ndarray:
        """Returns the index (b,) of each row of the batch of a step, in all processes.

        Of an image that cannot be read it is the index, not that of the one in its place.
        """
        return self._training_draws(step)[1]

    def evaluation(self) -> Iterator[Batch]:
        """Yields every example once, in order, the last batch padded (or dropped, if so asked).

        An image that cannot be read has mask 0, as padding has: it counts neither way.
        """
        steps = range(self._evaluation_steps)
        return self._batches(steps, self._evaluation_rows, self._evaluation_example)

    def _training_draws(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        seed, batch, repeats = self.loading.seed, self.batch, self.loading.repeats
        if self._balance is not None:
            return self._balance.rows(seed, step, batch, repeats)
        return sampling.training_rows(seed, step, batch, len(self.source), repeats)

    def _training_rows(self, step: int) -> Rows:
        draws, indices = self._training_draws(step)
        return {"epoch": draws[self._rows], "index": indices[self._rows]}

    def _evaluation_rows(self, step: int) -> Rows:
        indices, mask = sampling.evaluation_rows(step, self.batch, len(self.source))
        return {"index": indices[self._rows], "mask": mask[self._rows]}

    def _batches(
        self, steps: range, rows: Callable[[int], Rows], decode: Decoder
    ) -> Iterator[Batch]:
        if self.resident or not steps:
            made = (self._resident_batch(rows(step)) for step in steps)
        else:
            # What is sent has left the host's hands; what is being decoded is `prefetch` ahead.
            return ahead(map(self._put, self._decoded(map(rows, steps), decode)), 1)
        return ahead(made, self.loading.prefetch)

    def _decoded(self, rows: Iterable[Rows], decode: Decoder) -> Iterator[Rows]:
        """Yields this process's share of each batch, with images."""

        def blank(known: Rows) -> Rows:
            count = len(known["index"])
            image = _aligned((count, *self.loading.preprocess.size, 3))
            return {**known, "image": image, "label": np.empty(count, np.int32)}

        def fill(batch: Rows, place: int) -> None:
            row = {name: int(batch[name][place]) for name in ("epoch", "index") if name in batch}
            image = batch["image"][place]
            for name, value in decode(row, image).items():
                if value is not image:
                    batch[name][place] = value

        return filled(map(blank, rows), fill, self.loading.threads, self.loading.prefetch)

    def _resident_batch(self, rows: Rows) -> Batch:
        assert isinstance(self.source, ArraySource)
        taken = index = rows["index"]
        if self.source.stand_ins is not None:
            taken = self.source.stand_ins[index]
            if "mask" in rows:
                rows["mask"] = rows["mask"] * (taken == index)
        batch = self._put({**rows, "label": self.source.labels[taken], "taken": taken})
        return batch | {"image": self._gather(self._images, batch.pop("taken"))}

    def _put(self, rows: Rows) -> Batch:
        """Sends this process's rows to the devices that hold its share of the batch."""
        if self.loading.texts is not None and "epoch" in rows:
            rows = {**rows, "tokens": self.loading.texts(rows)}
        self.sent_bytes += sum(value.nbytes for value in rows.values())
        self.sent_rows += len(rows["index"])
        if jax.process_count() == 1:  # all at once, in half the time
            return jax.device_put(rows, self.loading.sharding)
        put = functools.partial(jax.make_array_from_process_local_data, self.loading.sharding)
        return {name: put(value, (self.batch, *value.shape[1:])) for name, value in rows.items()}

    def _training_example(self, row: Row, out: np.ndarray) -> dict[str, Any]:
        crop = functools.partial(self._training_crop, row, out)
        pixels, label = self._reader.read_or_next(row["index"], crop)
        if self.loading.alter is not None:
            place = self.loading.seed, row["epoch"], row["index"]
            pixels = self.loading.alter(pixels, example_generator(*place, ALTER))
        return {"image": pixels, "label": np.int32(label)}

    def _training_crop(
        self, row: Row, out: np.ndarray, data: bytes | np.ndarray, name: str
    ) -> np.ndarray:
        area, preprocess = self.loading.crop_area, self.loading.preprocess
        if area is None:  # the central crop of `preprocess.resize` is for evaluation only
            whole = dataclasses.replace(preprocess, resize=None)
            return whole.pixels(decoding.decode_pixels(data, name))

        def choose(size: tuple[int, int]) -> decoding.Box:
            place = self.loading.seed, row["epoch"], row["index"]
            numbers = example_numbers(BOX_NUMBERS, *place)
            return random_box(numbers, size, area, self.loading.crop_rule)

        pixels, box = decoding.decode_box(data, name, choose, reuse=True)
        return decoding.training_crop(pixels, box, out, antialias=preprocess.antialias)

    def _evaluation_example(self, row: Row, _: np.ndarray) -> dict[str, Any]:
        found, preprocess = self._reader.read(row["index"]), self.loading.preprocess
        if found is None:
            blank = np.zeros((*preprocess.size, 3), np.uint8)
            return {"image": blank, "label": np.int32(0), "mask": np.float32(0)}
        image, label = found
        return {"image": preprocess.pixels(image), "label": np.int32(label)}


def _may_stay(source: Source, loading: Loading) -> bool:
    """Returns whether images are kept on the device whole."""
    if not isinstance(source, ArraySource) or loading.alter is not None:
        return False
    return loading.resident_limit is None or source.images.nbytes <= loading.resident_limit


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns empty pixels that begin where a CPU device can take them over without a copy."""
    memory = np.empty(math.prod(shape) + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + math.prod(shape)].reshape(shape)


def _gather(images: jax.Array, indices: jax.Array) -> jax.Array:
    return images[indices]
