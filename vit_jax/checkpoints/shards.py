"""A safetensors model in several files, and the index that says which array is in which."""

from collections.abc import Collection
from pathlib import Path, PurePath

import numpy as np

from vit_jax.checkpoints import safetensors_file
from vit_jax.checkpoints.headers import Header, check_asked, check_total
from vit_jax.errors import CheckpointError


def read_headers(path: Path) -> dict[str, Header]:
    """Returns {name: dtype and shape} of all shards of an index; see `arrays.read_headers`."""
    weight_map = _weight_map(path)
    headers = {
        shard: safetensors_file.read_headers(path.parent / shard)
        for shard in sorted(set(weight_map.values()))
    }
    for shard, found in headers.items():
        promised = {name for name, file in weight_map.items() if file == shard}
        if differing := sorted(promised ^ found.keys()):
            raise CheckpointError(
                f"{path}: {differing[0]!r} is not both in the index and in {shard}; download the "
                "model again"
            )
    merged = {name: header for found in headers.values() for name, header in found.items()}
    check_total(merged.values(), path)
    return {name: merged[name] for name in weight_map}


def read_arrays(path: Path, names: Collection[str] | None) -> dict[str, np.ndarray]:
    """Returns {name: array} from the shards of an index; see `arrays.read_arrays`."""
    headers, weight_map = read_headers(path), _weight_map(path)
    names = list(headers if names is None else names)
    check_asked(names, headers, path)
    arrays: dict[str, np.ndarray] = {}
    for shard in sorted({weight_map[name] for name in names}):
        here = [name for name in names if weight_map[name] == shard]
        arrays |= safetensors_file.read_arrays(path.parent / shard, here)
    return {name: arrays[name] for name in names}


def _weight_map(path: Path) -> dict[str, str]:
    """Returns {name: file beside the index}; a file anywhere else is refused."""
    try:
        with path.open("rb") as file:
            text = file.read(safetensors_file.MAX_HEADER + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(text) > safetensors_file.MAX_HEADER:
        raise CheckpointError(f"{path}: an index of more than {len(text) - 1} bytes is not read")
    weight_map = safetensors_file.parse_json(text, path, "the index").get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{path}: has no weight_map, so it is not an index of safetensors")
    for shard in weight_map.values():
        if not isinstance(shard, str) or PurePath(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{path}: {shard!r} is no name of a file beside the index")
        if not (path.parent / shard).is_file():
            raise CheckpointError(f"{path}: {shard} is missing beside it; download it too")
    return weight_map
