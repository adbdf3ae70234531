"""What parameters are like, layer by layer, and what is strange about them.

They are looked at one by one as they come, by the names used here, and none is kept.
"""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from vit_jax.checkpoints.mapping import grouped
from vit_jax.checkpoints.statistics import Statistics, measure

# From the image to the logits, by the beginnings of layers' names.
_ORDER = (
    *("cls", "dist", "registers", "stem", "conv_root", "gn_root", "block", "embedding"),
    *("Transformer/posembed_input", "Transformer/encoderblock_", "MixerBlock_"),
    *("Transformer/encoder_norm", "pre_head_layer_norm", "pool", "pre_logits", "head"),
)
_BLOCK = re.compile(r"((?:Transformer/encoderblock|MixerBlock)_\d+)/(.+)")


@dataclasses.dataclass(frozen=True)
class Survey:
    """Parameters that have been looked at.

    Attributes:
      layers: {layer: statistics}, from the image to the logits.
      strange: sentences, of which good weights have none.
    """

    layers: Mapping[str, Statistics]
    strange: tuple[str, ...]

    @property
    def total(self) -> Statistics:
        """The statistics of all parameters together."""
        return sum(self.layers.values(), Statistics())


def survey(parameters: Iterable[tuple[str, np.ndarray]]) -> Survey:
    """Looks at parameters, (our path, array), which may come in any order."""
    layers: dict[str, Statistics] = defaultdict(Statistics)
    blocks: dict[str, dict[str, bytes]] = defaultdict(dict)
    remarks = []
    for path, array in parameters:
        statistics = measure(array)
        layers[layer_of(path)] += statistics
        remarks += _remarks(path, statistics)
        if match := _BLOCK.fullmatch(path):
            blocks[match[1]][match[2]] = _digest(array)
    ordered = {layer: layers[layer] for layer in sorted(layers, key=_place)}
    strange = (*grouped(remarks), *grouped(_lacking(blocks)), *_equal(blocks))
    return Survey(ordered, strange)


def layer_of(path: str) -> str:
    """Returns the layer that a parameter belongs to: "Transformer/encoderblock_3", "head"."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in ("Transformer", "batch_stats") else parts[0]


def _place(layer: str) -> tuple[int, list[int], str]:
    rank = next((i for i, start in enumerate(_ORDER) if layer.startswith(start)), len(_ORDER))
    return rank, [int(number) for number in re.findall(r"\d+", layer)], layer


def _remarks(path: str, statistics: Statistics) -> list[str]:
    """What is strange about one array."""
    count, constant = statistics.count, statistics.constant
    remarks = [
        f"{path}: {number:,} of {count:,} values are {what}"
        for number, what in ((statistics.nan, "NaN"), (statistics.infinite, "infinite"))
        if number
    ]
    if count == 0:
        remarks.append(f"{path}: has no elements")
    elif constant == 0 and path == "head/kernel":
        remarks.append(f"{path}: zeros alone: a new head, under which all classes are as probable")
    elif constant == 0 and path.endswith("kernel"):
        remarks.append(f"{path}: zeros alone: a dead layer")
    elif constant is not None:
        remarks.append(f"{path}: every value is {constant:g}")
    return remarks


def _lacking(blocks: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Parameters that some blocks have and others do not."""
    known = {name for block in blocks.values() for name in block}
    return [
        f"{block}/{name}: is not there, as it is in other blocks"
        for block in sorted(blocks, key=_place)
        for name in sorted(known - blocks[block].keys())
    ]


def _equal(blocks: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Blocks that hold the same bits."""
    alike: dict[frozenset[tuple[str, bytes]], list[str]] = defaultdict(list)
    for block in sorted(blocks, key=_place):
        alike[frozenset(blocks[block].items())].append(block)
    return [f"{', '.join(same)}: equal, bit for bit" for same in alike.values() if len(same) > 1]


def _digest(array: np.ndarray) -> bytes:
    header = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).digest()
