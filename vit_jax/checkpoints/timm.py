"""The layout of timm's Vision Transformers, hybrids and DeiT: names, config.json, both ways.

Read from timm 1.0.31 (models/vision_transformer.py, vision_transformer_hybrid.py, deit.py and
_hub.py): erf GELU and epsilon 1e-6 unless the config or the name says otherwise. Its hybrids
standardise convolutions with another epsilon (1e-8 of a variance; officially 1e-5 of a standard
deviation), which moves their logits a little.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.mapping import Row, Table
from vit_jax.checkpoints.torch_rows import asked_heads, fold_position, head_count, linear, norm
from vit_jax.checkpoints.transforms import CONV, fused, heads_bias, heads_in, heads_out
from vit_jax.errors import CheckpointError

Config = Mapping[str, Any]

NAME = "timm"
PATCHES = "patch_embed.proj.weight"  # also tells the width
_HEADS_BY_NAME = {"vit_base_patch16_gap_224": 16, "test_vit": 2}
# Architectures that timm 1.0.31 builds with the tanh form of GELU.
_TANH = re.compile(
    r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip|vit_large_patch16_siglip(_gap)?_512"
)
_POOLS = {"token": "token", "avg": "mean", "map": "attention", "": "none"}


def recognises(names: Collection[str]) -> bool:
    """Whether arrays of these names are timm's."""
    return PATCHES in names


def heads(width: int, config: Config, hints: Mapping[str, Any], where: str) -> int:
    """Returns the number of heads, as the user, the config, the name or the width has it."""
    named = _HEADS_BY_NAME.get(config.get("architecture", ""))
    given = asked_heads(hints) or _argument(config, "num_heads") or named
    return head_count(width, given, where)


def table(num_heads: int) -> Table:
    """Returns the rows; `num_heads` is needed for reading alone."""
    block, ours = "blocks.{i}", "Transformer/encoderblock_{i}"
    attention, pool = (
        f"{ours}/MultiHeadDotProductAttention_0",
        "pool/MultiHeadDotProductAttention_0",
    )
    parts, kv = ("query", "key", "value"), ("key", "value")
    kernel, bias = heads_in(num_heads), heads_bias(num_heads)
    return [
        Row("cls_token", ("cls",)),
        Row("dist_token", ("dist",)),
        Row("reg_token", ("registers",)),
        Row("pos_embed", ("Transformer/posembed_input/pos_embedding",)),
        *linear("patch_embed.proj", "embedding", CONV),
        *_backbone(),
        *norm(f"{block}.norm1", f"{ours}/LayerNorm_0"),
        *norm(f"{block}.norm2", f"{ours}/LayerNorm_1"),
        Row(f"{block}.attn.qkv.weight", _each(attention, parts, "kernel"), fused(kernel, 3)),
        Row(f"{block}.attn.qkv.bias", _each(attention, parts, "bias"), fused(bias, 3)),
        *norm(f"{block}.attn.q_norm", f"{attention}/query_ln"),
        *norm(f"{block}.attn.k_norm", f"{attention}/key_ln"),
        *linear(f"{block}.attn.proj", f"{attention}/out", heads_out(num_heads)),
        Row(f"{block}.ls1.gamma", (f"{ours}/layer_scale_0",)),
        Row(f"{block}.ls2.gamma", (f"{ours}/layer_scale_1",)),
        *linear(f"{block}.mlp.fc1", f"{ours}/MlpBlock_0/Dense_0"),
        *linear(f"{block}.mlp.fc2", f"{ours}/MlpBlock_0/Dense_1"),
        *norm("norm", "Transformer/encoder_norm"),
        *norm("fc_norm", "pool_norm"),
        Row("attn_pool.latent", ("pool/probe",)),
        Row("attn_pool.q.weight", (f"{pool}/query/kernel",), kernel),
        Row("attn_pool.q.bias", (f"{pool}/query/bias",), bias),
        Row("attn_pool.kv.weight", _each(pool, kv, "kernel"), fused(kernel, 2)),
        Row("attn_pool.kv.bias", _each(pool, kv, "bias"), fused(bias, 2)),
        *linear("attn_pool.proj", f"{pool}/out", heads_out(num_heads)),
        *norm("attn_pool.norm", "pool/LayerNorm_0"),
        *linear("attn_pool.mlp.fc1", "pool/MlpBlock_0/Dense_0"),
        *linear("attn_pool.mlp.fc2", "pool/MlpBlock_0/Dense_1"),
        *linear("head", "head"),
        *linear("head_dist", "head_dist"),
        Row("mask_token", ()),  # of self-supervised training
    ]


def _each(ours: str, parts: tuple[str, ...], leaf: str) -> tuple[str, ...]:
    return tuple(f"{ours}/{part}/{leaf}" for part in parts)


def _backbone() -> list[Row]:
    """Rows of a hybrid's ResNet; one without stages is its stem alone, under a shorter name."""
    backbone, unit = "patch_embed.backbone", "block{i+1}/unit{j+1}"
    block = f"{backbone}.stages.{{i}}.blocks.{{j}}"
    rows = []
    for stem in (f"{backbone}.stem", backbone):
        rows += [Row(f"{stem}.conv.weight", ("conv_root/kernel",), CONV)]
        rows += norm(f"{stem}.norm", "gn_root")
    for k in (1, 2, 3):
        rows += [Row(f"{block}.conv{k}.weight", (f"{unit}/conv{k}/kernel",), CONV)]
        rows += norm(f"{block}.norm{k}", f"{unit}/gn{k}")
    rows += [Row(f"{block}.downsample.conv.weight", (f"{unit}/conv_proj/kernel",), CONV)]
    return rows + norm(f"{block}.downsample.norm", f"{unit}/gn_proj")


def stem_alone(rows: Table) -> Table:
    """Returns the rows for writing a hybrid whose ResNet has no stages."""
    return [row for row in rows if ".backbone.stem." not in row.theirs]


def prepared(arrays: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Returns the arrays with the positions of registers, where they have any, added to these."""
    if "reg_token" not in arrays or "pos_embed" not in arrays:
        return dict(arrays)
    front, registers = int("cls_token" in arrays), arrays["reg_token"].shape[1]
    if _without_rows(arrays, config):
        return dict(arrays)
    return fold_position(arrays, "reg_token", "pos_embed", slice(front, front + registers))


def _without_rows(arrays: Mapping[str, np.ndarray], config: Config) -> bool:
    """Whether tokens in front have no rows in the table: as the config says, or a square tells."""
    if (said := _argument(config, "no_embed_class")) is not None:
        return bool(said)
    rows = arrays["pos_embed"].shape[1]
    return round(rows**0.5) ** 2 == rows


def hints(arrays: Mapping[str, np.ndarray], config: Config, where: str) -> dict[str, Any]:
    """Returns the fields of `create_model` that the shapes do not show.

    Raises:
      CheckpointError: a pooling that no model here has.
    """
    name = config.get("architecture", "")
    act = str(_argument(config, "act_layer") or ("gelu_tanh" if _TANH.match(name) else "gelu"))
    activation = {"gelu": "gelu_erf", "gelu_tanh": "gelu_tanh"}.get(act.lower())
    if activation is None or "quickgelu" in name:
        raise CheckpointError(
            f"{where}: its activation {act!r} ({name}) is none of gelu, gelu_tanh"
        )
    fields: dict[str, Any] = {"transformer": {"activation": activation}}
    fields |= _pooling(arrays, config, where)
    if "pos_embed" in arrays and ("cls_token" in arrays or "dist_token" in arrays):
        said = _argument(config, "no_embed_class")
        if said is not None or "reg_token" in arrays:
            fields["positions"] = {"class_row": not _without_rows(arrays, config)}
    if (grid := _grid(arrays, config)) is not None:
        fields.setdefault("positions", {})["grid"] = grid
    return fields


def _pooling(arrays: Collection[str], config: Config, where: str) -> dict[str, Any]:
    pool = _argument(config, "global_pool")
    if pool is None or pool == "token":
        return {}  # as the arrays say
    if pool not in _POOLS or (pool in ("avg", "map") and "cls_token" in arrays):
        beside = " beside a class token" if pool in _POOLS else ""
        raise CheckpointError(
            f"{where}: global_pool={pool!r}{beside} is a pooling that no model here has"
        )
    if pool == "":
        return {"classifier": "token_unpooled" if "cls_token" in arrays else "unpooled"}
    return {} if pool == "map" else {"classifier": "gap"}


def _grid(arrays: Mapping[str, np.ndarray], config: Config) -> tuple[int, int] | None:
    """The grid of patches, where the config's images make an oblong one."""
    size = _argument(config, "img_size") or (_pretrained(config).get("input_size") or [0])[1:]
    size = (size, size) if isinstance(size, int) else size
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return None
    if any(".backbone." in name for name in arrays):
        return None
    height, width = arrays[PATCHES].shape[2:]
    rows, columns = size[0] // height, size[1] // width
    return (rows, columns) if rows != columns else None


def preprocess(config: Config) -> dict[str, Any] | None:
    """Returns what the config says of images: size, resize, interpolation, mean, std; or None."""
    given = _pretrained(config)
    if "input_size" not in given:
        return None
    size, crop = tuple(given["input_size"][1:]), given.get("crop_pct", 0.9)
    squashed = given.get("crop_mode") == "squash" and crop == 1
    return {
        "size": size,
        "resize": None if squashed else int(min(size) / crop),
        "interpolation": given.get("interpolation", "bicubic"),
        "antialias": True,
        "mean": tuple(given.get("mean", (0.485, 0.456, 0.406))),
        "std": tuple(given.get("std", (0.229, 0.224, 0.225))),
    }


def labels(config: Config) -> tuple[str, ...] | None:
    """Returns the names of the classes; None where the config has none."""
    names = config.get("label_names") or _pretrained(config).get("label_names")
    return tuple(names) if names else None


def _pretrained(config: Config) -> Mapping[str, Any]:
    return config.get("pretrained_cfg") or config  # older ones have all of it at the top


def _argument(config: Config, name: str) -> Any:
    """An argument of the model's constructor: among `model_args`, or at the top of the config."""
    return (config.get("model_args") or {}).get(name, config.get(name))
