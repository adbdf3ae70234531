"""The layout of the released LiT files: an image tower, a text tower, a temperature.

`img/…` has the names of the official classifiers, with either numbering of modules; so has a text
Transformer, `txt/Encoder_0/…`. A BERT, `txt/BertEncoder_0/…`, has names of its own. `t` is the
logarithm of the temperature. (The official `LitModel.load_variables`.)
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from vit_jax.checkpoints import architecture, official
from vit_jax.checkpoints.architecture import IMAGE, Fields, Shapes, merged
from vit_jax.checkpoints.mapping import Row, Table
from vit_jax.errors import CheckpointError

NAME = "lit"
TEXT = "txt/"

_BERT = "txt/BertEncoder_0"
_LAYER = f"{_BERT}/encoder_block/layer_sequence/layers_"
_TOKENS = f"{_BERT}/embedder/embedders_token_ids/embedding"
_BLOCK = "txt/Encoder_0/encoderblock_"
_HEAD_WIDTH = 64  # of every BERT that was published
_MAX_LEN = 16  # of every LiT that was released; a BERT's parameters serve any
# The sizes of the named BERTs, in the order of `_SIZES`.
_NAMED = {(12, 768, 12, 3072, 30522, 512): "base", (24, 1024, 16, 4096, 30522, 512): "large"}
_SIZES = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("intermediate_dim", "vocab_size", "max_length"),
)


def prefix_of(names: Collection[str]) -> str | None:
    """Returns what stands before the parameters' names; None if this is no such file."""
    for prefix in official.PREFIXES:
        tower = any(name.startswith(f"{prefix}{TEXT}") for name in names)
        if tower and official.prefix_of(_within(names, f"{prefix}{IMAGE}")) == "":
            return prefix
    return None


def table(prefix: str, names: Collection[str]) -> Table:
    """Returns the rows: those of the official classifiers for the image tower, and the rest."""
    published = official.is_published(_within(names, f"{prefix}{IMAGE}"))
    rows = [
        Row(
            f"{prefix}{IMAGE}{row.theirs}",
            tuple(f"{IMAGE}{path}" for path in row.ours),
            row.transform,
        )
        for row in official.table(published=published)
    ]
    rows.append(Row(f"{prefix}b", ()))  # of a sigmoid loss: it changes no order
    rows.append(Row(f"{prefix}{{rest}}", ("{rest}",)))
    if prefix:
        rows.append(Row("{rest}", ()))
    return rows


def fields_of(shapes: Shapes, hints: Mapping[str, Any], where: str) -> Fields:
    """Returns the fields of the `LitModel` that has these parameters.

    The heads of a BERT do not show in its shapes: they are taken to be 64 wide.

    Args:
      shapes, hints, where: as `architecture.fields_of` takes them.

    Raises:
      CheckpointError: no known architecture, or a BERT whose heads must be named.
    """
    inside = architecture.image_parameters(shapes)
    image = architecture.fields_of(inside, hints.get("image") or {}, where)
    image_head = image.pop("num_classes", None)
    bert = _TOKENS in shapes
    text = _bert(shapes, hints, where) if bert else _transformer(shapes, where)
    grid = architecture.grid_of(inside, image, where)
    side = 224  # behind a stem of convolutions, whose tokens tell no pixels
    if grid is not None and image.get("patches"):
        side = grid[0] * architecture.pixels_of_patch(image)[0]
    pp = {
        "tokenizer_name": "bert" if bert else "sentencepiece",
        "size": side,
        "max_len": _MAX_LEN if bert else shapes["txt/pos_embedding"][1],
    }
    head = shapes.get("txt/head/kernel")
    found: Fields = {
        "image": image,
        "text_model": "bert" if bert else "text_transformer",
        "text": text,
        "pp": pp,
        "out_dim": (image_head, head[-1] if head else None),
    }
    known = {name: hints[name] for name in ("pp", "dtype") if name in hints}
    return merged(found, known)


def _bert(shapes: Shapes, hints: Mapping[str, Any], where: str) -> Fields:
    layers = architecture.count_of(shapes, rf"{re.escape(_LAYER)}(\d+)/")
    mlp = f"{_LAYER}0/mlp_block/mlp/dense_layer/kernel"
    positions = f"{_BERT}/embedder/embedders_position_ids/embedding"
    for path in (mlp, positions):
        if len(shapes.get(path, ())) != 2:
            raise _incomplete(where, path)
    said = (hints.get("text") or {}).get("config")
    given = said if isinstance(said, Mapping) else {}
    vocabulary, width = shapes[_TOKENS]
    heads = given.get("num_attention_heads")
    if heads is None and width % _HEAD_WIDTH:
        raise CheckpointError(
            f"{where}: its BERT is {width} wide, which heads of {_HEAD_WIDTH} do not divide; name "
            "their number: text={'config': {'num_attention_heads': …}}"
        )
    sizes = (layers, width, heads or width // _HEAD_WIDTH, shapes[mlp][-1], vocabulary)
    sizes = (*sizes, shapes[positions][0])
    extra = {name: given[name] for name in given if name not in _SIZES}
    if sizes in _NAMED and not extra:
        return {"config": _NAMED[sizes]}
    return {"config": {**dict(zip(_SIZES, sizes, strict=True)), **extra}}


def _transformer(shapes: Shapes, where: str) -> Fields:
    query = f"{_BLOCK}0/MultiHeadDotProductAttention_0/query/kernel"
    mlp = f"{_BLOCK}0/MlpBlock_0/Dense_0/kernel"
    for path, count in (
        ("txt/pos_embedding", 3),
        ("txt/Embed_0/embedding", 2),
        (query, 3),
        (mlp, 2),
    ):
        if len(shapes.get(path, ())) != count:
            raise _incomplete(where, path)
    vocabulary, width = shapes["txt/Embed_0/embedding"]
    return {
        "width": width,
        "num_layers": architecture.count_of(shapes, rf"{_BLOCK}(\d+)/"),
        "mlp_dim": shapes[mlp][-1],
        "num_heads": shapes[query][1],
        "vocab_size": vocabulary,
    }


def _incomplete(where: str, path: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: has no {path} of the shape that a LiT model has, so its text tower cannot be "
        "told; the file is incomplete, or no model of this kind"
    )


def _within(names: Collection[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
