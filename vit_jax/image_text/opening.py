"""LiT models ready for use: weights, preprocessing, tokenizer, from wherever they lie."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from vit_jax import captions, trees
from vit_jax.checkpoints.released_lit import ReleasedLit, released
from vit_jax.config import Config
from vit_jax.data.pipeline import Feed, Loading
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import Source
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.image_text.towers import Towers
from vit_jax.mesh import batch_sharding, batch_shards
from vit_jax.models.lit import LitModel
from vit_jax.pretrained import Trained, load_run, open_pretrained
from vit_jax.text.byte_tokens import ByteTokenizer
from vit_jax.text.tokenizers import (
    Tokenizer,
    check_vocabulary,
    make_tokenizer,
    open_tokenizer,
)
from vit_jax.text.vocabulary import ENDINGS, Vocabulary, read_vocabulary
from vit_jax.workdir import is_run

logger = logging.getLogger("vit_jax")

_TEXTS_AT_ONCE = 256
# The text tower's table of embeddings, with a row for each token.
_TABLES = (
    "params/txt/Embed_0/embedding",
    "params/txt/BertEncoder_0/embedder/embedders_token_ids/embedding",
)


@dataclasses.dataclass(frozen=True)
class ImageText:
    """A LiT model with all that it takes to embed images and texts.

    Attributes:
      where: it comes from.
      model: `model.apply(variables, images, tokens)` → (zimg, ztxt, temperature).
      variables: its parameters.
      preprocess: what it expects of its images.
      tokenizer: makes texts ready for it.
      config: of the run that it comes from; None where it comes from a file.
    """

    where: str
    model: LitModel
    variables: dict[str, trees.Tree]
    preprocess: Preprocess
    tokenizer: Tokenizer
    config: Config | None = None


def open_image_text(
    source: str | Path, vocabulary: str | Path | None = None, *, crop: bool = False, **fields: Any
) -> ImageText:
    """Opens a LiT model.

    Args:
      source: the workdir of a run or one of its checkpoints, a file in the released layout, a URL
        of one, or the name of a released model.
      vocabulary: a path or a URL; None takes the run's own copy, a file beside the weights that
        has their name, or that of the released model.
      crop: cut the centre out of images, instead of resizing them whatever their shape; both are
        official, and the second is the usual one.
      fields: as `load_pretrained` takes them; not for a run.

    Raises:
      CheckpointError: no weights, or those of another kind; a vocabulary of another size.
      ConfigError: no vocabulary is found, or the extra `lit` is not installed.
    """
    loaded: Any = load_run(source) if is_run(source) else open_pretrained(source, **fields)
    model, preprocess = loaded.model, loaded.preprocess
    if not isinstance(model, LitModel):
        raise CheckpointError(
            f"{source}: holds no LiT model: it has no text tower; vit_jax evaluate and predict "
            "are for classifiers"
        )
    if crop:
        preprocess = dataclasses.replace(preprocess, resize=min(preprocess.size))
    run = loaded if isinstance(loaded, Trained) else None
    tokenizer = _tokenizer(source, model, vocabulary, run)
    check_vocabulary(tokenizer, vocabulary_rows(loaded.variables), str(source))
    config = None if run is None else run.config
    return ImageText(str(source), model, loaded.variables, preprocess, tokenizer, config)


def vocabulary_rows(variables: trees.Tree) -> int:
    """Returns how many tokens the text tower of these variables has embeddings of."""
    shapes = {path: leaf.shape for path, leaf in trees.flatten(variables).items()}
    return next(shapes[path][0] for path in _TABLES if path in shapes)


def embed_texts(
    lit: ImageText, towers: Towers, variables: trees.Tree, texts: Sequence[str]
) -> tuple[Float[np.ndarray, "n d"], int]:
    """Returns a vector of length 1 for each text, and how many texts were clipped.

    Args:
      lit: the model.
      towers: its towers.
      variables: on all devices.
      texts: the same in every process.
    """
    found = lit.tokenizer(texts)
    if found.clipped:
        logger.warning(
            "%d of %d texts have more than %d tokens, and lose what comes after",
            *(found.clipped, len(texts), lit.tokenizer.max_len),
        )
    return towers.texts(variables, found.tokens), found.clipped


def towers_of(lit: ImageText, mesh: Mesh) -> Towers:
    """Returns the towers of a model on a mesh."""
    return Towers(lit.model, lit.preprocess, mesh, _TEXTS_AT_ONCE)


def feed_of(source: Source, preprocess: Preprocess, mesh: Mesh, batch: int) -> Feed:
    """Returns all of a source as batches of about that size, which the devices share evenly."""
    shards = batch_shards(mesh)
    size = -(-min(batch, len(source)) // shards) * shards
    return Feed(source, size, Loading(preprocess, batch_sharding(mesh)))


def on_devices(lit: ImageText, sharding: jax.sharding.NamedSharding) -> trees.Tree:
    """Returns the variables, whole on every device."""
    return jax.device_put(lit.variables, sharding)


def _tokenizer(
    source: str | Path, model: LitModel, given: str | Path | None, run: Trained | None
) -> Tokenizer:
    kind, length = model.pp["tokenizer_name"], model.pp["max_len"]
    if kind == "bytes":
        return ByteTokenizer(length)
    if given is not None:
        return open_tokenizer(kind, given, length)
    if run is not None:
        return captions.make_tokenizer(run.config, run.workdir.vocabulary)
    return make_tokenizer(_vocabulary(source, kind), length)


def _vocabulary(source: str | Path, kind: str) -> Vocabulary:
    own = _beside(source, kind)
    if own is not None:
        return read_vocabulary(kind, own)
    if (known := _released(source)) is not None:
        return read_vocabulary(known.tokenizer, known.vocabulary)
    raise ConfigError(
        f"{source}: comes without a vocabulary; give the one it was trained with: "
        f"--vocabulary=FILE{ENDINGS[kind]}"
    )


def _beside(source: str | Path, kind: str) -> Path | None:
    """Returns the vocabulary that lies with the weights; None where none does."""
    path, ending = Path(source).expanduser(), ENDINGS[kind]
    file = path / f"vocabulary{ending}" if path.is_dir() else path.with_suffix(ending)
    return file if file.is_file() else None


def _released(source: str | Path) -> ReleasedLit | None:
    name = str(source)
    if Path(name).expanduser().exists() or "://" in name:  # a copy, told by its name
        name = Path(name).stem
    try:
        return released(name)
    except CheckpointError:  # another model, whose name begins like theirs
        return None
