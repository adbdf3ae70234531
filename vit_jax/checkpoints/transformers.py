"""The layout of transformers' ViT and DeiT: names, config.json, preprocessor_config.json.

Read from transformers 4.46 and 5.23 (models/vit, models/deit, conversion_mapping.py): the names of
4.x, which 5.x also writes, and those that 5.x has in memory. A model without a classifier has a
pooler, which is our `pre_logits`: a Dense and tanh on the class token.
"""

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.mapping import Row, Table
from vit_jax.checkpoints.torch_rows import asked_heads, fold_position, head_count, linear, norm
from vit_jax.checkpoints.transforms import CONV, heads_bias, heads_in, heads_out
from vit_jax.errors import CheckpointError
from vit_jax.grids import show

logger = logging.getLogger("vit_jax")

Config = Mapping[str, Any]

NAME = "transformers"
PATCHES = "embeddings.patch_embeddings.projection.weight"  # after the prefix; also tells the width
_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
UNREAD_TOKEN = "distillation_token, which no head reads"
EPSILON = 1e-12  # of ViTConfig and DeiTConfig, where config.json has none
# Pillow's numbers for the ways of resizing; 1 is Lanczos, which bicubic is nearest to.
_RESAMPLE = {1: "bicubic", 2: "bilinear", 3: "bicubic"}


def prefix_of(names: Collection[str]) -> str | None:
    """Returns what stands before the names of the encoder; None if this is no such file."""
    return next((p for p in ("vit.", "deit.", "") if f"{p}{PATCHES}" in names), None)


def recognises(names: Collection[str]) -> bool:
    """Whether arrays of these names are of a ViT or DeiT of transformers."""
    return prefix_of(names) is not None


def is_new(names: Collection[str]) -> bool:
    """Whether blocks have the names of 5.x."""
    return any(".q_proj." in name for name in names)


def heads(width: int, config: Config, hints: Mapping[str, Any], where: str) -> int:
    """Returns the number of heads, as the user, the config or the width has it."""
    return head_count(width, asked_heads(hints) or config.get("num_attention_heads"), where)


def table(num_heads: int, prefix: str = "vit.", *, new: bool = False) -> Table:
    """Returns the rows, for names of 4.x or `new` ones; `num_heads` is needed for reading alone."""
    embeddings, ours = f"{prefix}embeddings", "Transformer/encoderblock_{i}"
    block = f"{prefix}layers.{{i}}" if new else f"{prefix}encoder.layer.{{i}}"
    attention = f"{ours}/MultiHeadDotProductAttention_0"
    in_names = [f"{p}_proj" if new else f"attention.{n}" for p, n in zip("qkv", _QKV, strict=True)]
    rows = [
        Row(f"{embeddings}.cls_token", ("cls",)),
        Row(f"{embeddings}.distillation_token", ("dist",)),
        Row(f"{embeddings}.position_embeddings", ("Transformer/posembed_input/pos_embedding",)),
        *linear(f"{embeddings}.patch_embeddings.projection", "embedding", CONV),
        *norm(f"{block}.layernorm_before", f"{ours}/LayerNorm_0"),
        *norm(f"{block}.layernorm_after", f"{ours}/LayerNorm_1"),
    ]
    for theirs, part in zip(in_names, _QKV, strict=True):
        name, path = f"{block}.attention.{theirs}", f"{attention}/{part}"
        rows += [
            Row(f"{name}.weight", (f"{path}/kernel",), heads_in(num_heads)),
            Row(f"{name}.bias", (f"{path}/bias",), heads_bias(num_heads)),
        ]
    out, up, down = _NEW if new else _OLD
    return [
        *rows,
        *linear(f"{block}.{out}", f"{attention}/out", heads_out(num_heads)),
        *linear(f"{block}.{up}", f"{ours}/MlpBlock_0/Dense_0"),
        *linear(f"{block}.{down}", f"{ours}/MlpBlock_0/Dense_1"),
        *norm(f"{prefix}layernorm", "Transformer/encoder_norm"),
        *linear(f"{prefix}pooler.dense", "pre_logits"),
        *linear("cls_classifier" if prefix == "deit." else "classifier", "head"),
        *linear("distillation_classifier", "head_dist"),
        *(linear("classifier", "head") if prefix == "deit." else []),
        Row(f"{embeddings}.mask_token", ()),  # of self-supervised training
        Row("decoder.{rest}", ()),
    ]


_QKV = ("query", "key", "value")
# The names of out projection and MLP within a block.
_OLD = ("attention.output.dense", "intermediate.dense", "output.dense")
_NEW = ("attention.o_proj", "mlp.fc1", "mlp.fc2")


def unread(names: Collection[str]) -> Table:
    """Returns the rows, for reading alone, of arrays that the model in the file does not read.

    They stand before those of `table`. transformers has no registers in a ViT or DeiT. A model with
    a classifier has no pooler: one that a file has all the same is left over from training.
    """
    rows = [Row(UNREAD_TOKEN, ("registers",))]
    if any(f"{head}.weight" in names for head in ("classifier", "cls_classifier")):
        rows.append(Row(f"{prefix_of(names)}pooler.{{rest}}", ()))
    return rows


def prepared(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays, with a distillation token that no head reads as a register.

    `DeiTForImageClassification` has the token and one head. Here a register has no row in the
    position table, so the token takes its row with it.
    """
    prefix = prefix_of(arrays)
    token = f"{prefix}embeddings.distillation_token"
    if token not in arrays or "distillation_classifier.weight" in arrays:
        return dict(arrays)
    positions = f"{prefix}embeddings.position_embeddings"
    folded = fold_position(arrays, token, positions, slice(1, 2))
    folded[UNREAD_TOKEN] = folded.pop(token)
    return folded


def hints(config: Config, where: str) -> dict[str, Any]:
    """Returns the fields of `create_model` that the shapes do not show.

    Raises:
      CheckpointError: an activation or a kind of model that is not here.
    """
    kind = config.get("model_type", "vit")
    if kind not in ("vit", "deit"):
        raise CheckpointError(f"{where}: model_type={kind!r} is none of vit, deit")
    act = config.get("hidden_act", "gelu")
    if act not in _ACTIVATIONS:
        raise CheckpointError(
            f"{where}: its hidden_act={act!r} is none of {', '.join(_ACTIVATIONS)}"
        )
    fields: dict[str, Any] = {
        "transformer": {
            "activation": _ACTIVATIONS[act],
            "epsilon": config.get("layer_norm_eps", EPSILON),
        },
        "positions": {"class_row": True},
    }
    image, patch = (_pair(config.get(name, 0)) for name in ("image_size", "patch_size"))
    if min(patch) and (grid := (image[0] // patch[0], image[1] // patch[1])) != grid[::-1]:
        fields["positions"]["grid"] = grid
    return fields


def preprocess(config: Config, processor: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """Returns what preprocessor_config.json says of images; None where there is none.

    What of it is not done here is warned of, in one line.

    Raises:
      CheckpointError: a `rescale_factor` that is no positive number.
    """
    if not processor:
        return None
    edge = processor.get("size", config.get("image_size", 224))
    size = _size(edge)
    crop = _size(processor.get("crop_size", size)) if processor.get("do_center_crop") else None
    squashed = crop is not None and _squashes(edge, processor)
    if crop == size and squashed:
        crop = None  # which takes nothing off
    _warn(processor, f"{show(size)} before the crop" if crop and squashed else None, where)
    mean, std = _normalisation(processor, where)
    return {
        "size": crop or size,
        "resize": min(size) if crop else None,
        "interpolation": _interpolation(processor),
        "antialias": True,
        "mean": mean,
        "std": std,
    }


def _squashes(size: Any, processor: Mapping[str, Any]) -> bool:
    """Whether an image is resized to (height, width), whatever its shape, and not by one side.

    One number means both sides to the processors of ViT and DeiT, and the shorter to others.
    """
    if isinstance(size, Mapping):
        return "shortest_edge" not in size
    kind = processor.get("image_processor_type") or processor.get("feature_extractor_type") or "ViT"
    return not isinstance(size, int) or str(kind).startswith(("ViT", "DeiT"))


def _interpolation(processor: Mapping[str, Any]) -> str:
    """The way of resizing, or the nearest one that is here."""
    return _RESAMPLE.get(processor.get("resample", 2), "bilinear")


def _normalisation(processor: Mapping[str, Any], where: str) -> tuple[tuple[float, ...], ...]:
    """Returns mean and std for values from 0 to 1, whatever range theirs are for."""
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1
    if not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
        raise CheckpointError(
            f"{where}: rescale_factor={factor!r} must be a positive number, such as 1/255; mend "
            "preprocessor_config.json"
        )
    white = 1.0 if math.isclose(255 * factor, 1) else 255 * factor  # what 255 becomes
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.get("do_normalize", True):
        mean = processor.get("image_mean", (0.5, 0.5, 0.5))
        std = processor.get("image_std", (0.5, 0.5, 0.5))
    return tuple(value / white for value in mean), tuple(value / white for value in std)


def _warn(processor: Mapping[str, Any], squashed_to: str | None, where: str) -> None:
    """Warns of what a processor does to an image and a `Preprocess` does not."""
    others = []
    if squashed_to is not None:
        others.append(f"an image is squashed to {squashed_to} there, and keeps its shape here")
    if (resample := processor.get("resample", 2)) not in (2, 3):
        others.append(f"resample={resample!r} is {_interpolation(processor)} here")
    if not processor.get("do_resize", True):
        others.append("do_resize=False: images are resized here")
    if others:
        logger.warning("%s: prepared otherwise than by transformers: %s", where, "; ".join(others))


def labels(config: Config) -> tuple[str, ...] | None:
    """Returns the names of the classes; None where the config has none but the placeholders."""
    labels = config.get("id2label") or {}
    names = tuple(labels[key] for key in sorted(labels, key=int))
    return None if names == tuple(placeholders(len(names))) else names


def placeholders(count: int) -> list[str]:
    """Returns what transformers calls classes that nobody has named."""
    return [f"LABEL_{i}" for i in range(count)]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return _pair(size["shortest_edge"])
        return size["height"], size["width"]
    return _pair(size)
