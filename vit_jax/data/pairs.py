"""Images with captions, at random access: what image-text models learn from."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

from vit_jax.data.augment_host import CAPTION, example_generator
from vit_jax.data.sources import Source
from vit_jax.errors import DataError

Content = bytes | UInt8[np.ndarray, "h w c"]  # the file's bytes, or RGB pixels
_REMEMBERED = 2**18  # examples whose captions stay in memory


@runtime_checkable
class Pairs(Protocol):
    """Images and their captions, whatever holds them."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Content:
        """Returns an image; DataError if it cannot be read."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Returns the captions of an image, none if it has none; DataError if unreadable."""
        ...

    def name(self, index: int) -> str:
        """Names an example for a message: its path, or its number."""
        ...


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Pairs as a `Source`, whose label is the number of the pair.

    So whoever reads an image knows which caption belongs to it, also where another image stands in
    for one that cannot be read. An image without a caption cannot be read.

    Attributes:
      pairs: images and captions.
      class_names: of the classes that the captions name; () where they are free text.
    """

    pairs: Pairs
    class_names: tuple[str, ...] = ()
    _known: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict, repr=False)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    @property
    def labels(self) -> Int32[np.ndarray, "n"]:
        """The number of every pair."""
        return np.arange(len(self), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Content, int]:
        self.captions(index)
        return self.pairs.image(index), index

    def name(self, index: int) -> str:
        return self.pairs.name(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """Returns the captions of an image, in order, each in one line.

        Raises:
          DataError: it has none, or only empty ones.
        """
        found = self._known.get(index)
        if found is None:
            lines = (" ".join(text.split()) for text in self.pairs.captions(index))
            found = tuple(line for line in lines if line)
            if not found:
                raise DataError(
                    f"{self.name(index)}: has no caption; give it one, take the image out, or "
                    "leave such images out with config.bad_images=skip"
                )
            self._remember(index, found)
        return found

    def caption(self, seed: int, epoch: int, index: int) -> str:
        """Returns the caption that an image has in an epoch: a draw of its own, as a crop is."""
        found = self.captions(index)
        if len(found) == 1:
            return found[0]
        number = example_generator(seed, epoch, index, CAPTION).random()
        return found[int(number * len(found))]

    def _remember(self, index: int, found: tuple[str, ...]) -> None:
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[index] = found


@dataclasses.dataclass(frozen=True)
class ClassPairs:
    """The images of classes, with captions made of the classes' names.

    Attributes:
      images: with their labels.
      templates: captions with "{}" in the place of the name.
      spoken: what a class is called in a caption, from what it is called in the data.
    """

    images: Source
    templates: tuple[str, ...]
    spoken: Callable[[str], str]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Content:
        return self.images[index][0]

    def captions(self, index: int) -> tuple[str, ...]:
        name = self.spoken(self.images.class_names[self._labels[index]])
        return tuple(template.replace("{}", name) for template in self.templates)

    def name(self, index: int) -> str:
        return self.images.name(index)

    @property
    def _labels(self) -> Int32[np.ndarray, "n"]:
        return self.images.labels
