"""Images with captions in record files, as TFDS writes them."""

import dataclasses
import threading
from typing import Any

from vit_jax.data.records import Records, read_features
from vit_jax.errors import DataError


class _Newest(threading.local):
    """The example that a thread read last: its image and its captions are asked for in turn."""

    index: int | None = None
    features: Any = None


@dataclasses.dataclass(frozen=True)
class RecordPairs:
    """Encoded images and their captions, read when asked for.

    Attributes:
      records: serialised examples.
      feature, caption: names of the features that hold image and captions.
      title: what to call the split in a message.
    """

    records: Records
    feature: str
    caption: str
    title: str
    _newest: _Newest = dataclasses.field(default_factory=_Newest, repr=False)

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> bytes:
        found = self._features(index)[self.feature].bytes_list.value
        if not found:
            raise DataError(f"{self.name(index)}: has no image")
        return found[0]

    def captions(self, index: int) -> tuple[str, ...]:
        found = self._features(index)[self.caption].bytes_list.value
        return tuple(text.decode("utf-8", "replace") for text in found)

    def name(self, index: int) -> str:
        return f"{self.title}, example {index}"

    def _features(self, index: int) -> Any:
        if self._newest.index != index:
            self._newest.features = read_features(self.records, index, self.name(index))
            self._newest.index = index
        return self._newest.features
