"""What a locked image tower makes of a split: computed once, kept in the cache."""

import dataclasses
import hashlib
import json
from collections.abc import Callable

import jax
import numpy as np

from vit_jax import trees
from vit_jax.data.embedded import EmbeddedFeed, Vectors
from vit_jax.data.pipeline import Feed
from vit_jax.data.stamps import stamp
from vit_jax.errors import DataError
from vit_jax.experiment import Experiment
from vit_jax.image_text.towers import Towers
from vit_jax.mesh import replicated
from vit_jax.runtime import cache, processes


def embedded(
    experiment: Experiment, variables: trees.Tree, say: Callable[[str], None]
) -> Experiment:
    """Returns the experiment with vectors in the place of the images of both splits.

    Args:
      experiment: of a run whose image tower is locked, and whose images nothing alters.
      variables: of its model.
      say: tells a person what takes a while.

    Raises:
      DataError: an image that cannot be read, unless the settings skip it; or none can.
    """
    towers, weights = Towers.of(experiment), _weights(experiment, variables)
    feeds = {}
    for name in ("train", "test"):
        feed: Feed = getattr(experiment, name)
        content = stamp(feed.source)
        key = hashlib.sha256(f"{weights}|{content}".encode()).hexdigest()[:32]
        file = f"embeddings/{key}.npz" if content is not None else None
        found = _known(file)
        if found is None:
            say(f"{name}: {len(feed.source):,} images, computing their vectors once")
            found = _computed(towers, feed, variables)
            _keep(file, found)
        feeds[name] = EmbeddedFeed(feed, found)
    return dataclasses.replace(experiment, **feeds)


def _weights(experiment: Experiment, variables: trees.Tree) -> str:
    """Returns a digest of all that the vector of an image depends on besides the image."""
    model = experiment.model
    said = {
        "fields": repr(sorted(model.image.items(), key=lambda item: item[0])),
        "dtype": str(model.dtype),
        "preprocess": experiment.preprocess.to_dict(),
        "parameters": _digest(variables["params"]["img"]),
        "statistics": _digest(variables.get("batch_stats", {})),
    }
    return json.dumps(said, sort_keys=True)


def _digest(tree: trees.Tree) -> str:
    """Returns the digest of arrays, of which each process may hold a part."""
    if not tree:
        return ""
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    return trees.digest(jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree))


def _known(file: str | None) -> Vectors | None:
    """Returns what was computed before, if every process has it: computing takes all of them."""
    known = cache.read_arrays(file) if file is not None else None
    if processes.largest(int(known is None)):
        return None
    assert known is not None
    return Vectors(known["values"], known["readable"])


def _keep(file: str | None, found: Vectors) -> None:
    if file is not None and processes.is_first():
        cache.write_arrays(file, {"values": found.values, "readable": found.readable})


def _computed(towers: Towers, feed: Feed, variables: trees.Tree) -> Vectors:
    loading = dataclasses.replace(feed.loading, texts=None)
    whole = Feed(feed.source, feed.batch, loading)
    rows, count = towers.padded(variables, whole), len(feed.source)
    readable = rows["mask"][:count] > 0
    values = rows["vector"][:count].astype(np.float32)
    if not readable.any():
        raise DataError(f"none of the {count} images of the split could be read")
    return Vectors(values * readable[:, None], readable)
