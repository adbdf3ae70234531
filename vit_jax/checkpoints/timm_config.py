"""The config.json with which timm builds a model of ours, as `timm.create_model('local-dir:…')`."""

from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.errors import CheckpointError

Fields = Mapping[str, Any]

EPSILON = 1e-6  # of every LayerNorm that a config of timm can ask for
# The hybrids by the units of their ResNet's stages.
_HYBRIDS = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
_PLAIN, _DISTILLED = "vit_base_patch16_224", "deit_base_distilled_patch16_224"
_POOLS = {"token": "token", "distilled": "token", "mean": "avg", "attention": "map", "none": ""}
_CLASSIFIERS = {"token": "token", "gap": "mean", "unpooled": "none", "token_unpooled": "none"}


def timm_config(
    fields: Fields,
    size: tuple[int, int],
    preprocess: Mapping[str, Any],
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Returns the config.

    Args:
      fields: of `create_model`.
      size: (height, width) of the images, in pixels.
      preprocess: fields of a `Preprocess`.
      class_names: None where there are none.

    Raises:
      CheckpointError: a model that timm does not have.
    """
    if "hidden_size" not in fields:
        raise CheckpointError("timm's Mixer has another layout; convert to 'official'")
    num_classes = fields.get("num_classes") or 0
    config: dict[str, Any] = {
        "architecture": _architecture(fields),
        "num_classes": num_classes,
        "num_features": fields["hidden_size"],
        "model_args": _arguments(fields, size),
        "pretrained_cfg": {
            "tag": "vit_jax",
            "input_size": [3, *size],
            "fixed_input_size": True,
            "interpolation": preprocess["interpolation"],
            "crop_pct": min(size) / preprocess["resize"] if preprocess["resize"] else 1.0,
            # squash: height and width each on their own, as the official evaluation does
            "crop_mode": "center" if preprocess["resize"] else "squash",
            "mean": list(preprocess["mean"]),
            "std": list(preprocess["std"]),
            "num_classes": num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    if class_names is not None:
        config["label_names"] = list(class_names)
    return config


def _architecture(fields: Fields) -> str:
    if not (resnet := fields.get("resnet")):
        return _DISTILLED if fields.get("pool") == "distilled" else _PLAIN
    stages = tuple(resnet["num_layers"])
    if stages not in _HYBRIDS or resnet["width_factor"] != 1:
        raise CheckpointError(
            f"timm has no hybrid with a ResNet of {stages} units and width factor "
            f"{resnet['width_factor']}; it has {', '.join(map(str, _HYBRIDS))} with factor 1"
        )
    return _HYBRIDS[stages]


def _arguments(fields: Fields, size: tuple[int, int]) -> dict[str, Any]:
    """Arguments of timm's constructor; those that keep its defaults are left out."""
    encoder = fields.get("transformer") or {}
    attention = encoder.get("attention") or {}
    attention = {} if isinstance(attention, str) else attention
    pool = fields.get("pool") or _CLASSIFIERS[fields.get("classifier", "token")]
    _check(fields, pool, encoder, attention)
    has_class_token = pool in ("token", "distilled") or fields.get("classifier") == "token_unpooled"
    patch = fields["patches"]["size"]
    arguments = {
        "img_size": list(size),
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "embed_dim": fields["hidden_size"],
        "depth": encoder["num_layers"],
        "num_heads": encoder["num_heads"],
        "mlp_ratio": encoder["mlp_dim"] / fields["hidden_size"],
        "global_pool": _POOLS[pool],
        "class_token": has_class_token,
        "fc_norm": bool(fields.get("pool_norm")),
        "act_layer": "gelu" if encoder.get("activation") == "gelu_erf" else "gelu_tanh",
    }
    positions = _positions(fields)
    optional = {
        "no_embed_class": not positions.get("class_row", True) or bool(fields.get("num_registers")),
        "reg_tokens": fields.get("num_registers"),
        "init_values": encoder.get("layer_scale"),
        "qk_norm": attention.get("qk_norm"),
    }
    arguments |= {name: value for name, value in optional.items() if value}
    if attention.get("qkv_bias") is False:
        arguments["qkv_bias"] = False
    return arguments | ({"pos_embed": "none"} if positions["kind"] == "none" else {})


def _check(fields: Fields, pool: str, encoder: Fields, attention: Fields) -> None:
    """Raises CheckpointError for what names and shapes alone would not show to be absent there."""
    reason = None
    if fields.get("stem"):
        reason = f"stem={fields['stem']!r}"
    elif pool not in _POOLS:
        reason = f"pool={pool!r}"
    elif not isinstance(encoder.get("num_heads"), int) or attention.get("head_width"):
        reason = "layers with heads of their own number or width"
    elif _positions(fields)["kind"] == "sincos2d":
        reason = "fixed positions (positions='sincos2d')"
    elif (
        fields.get("num_registers")
        and _positions(fields).get("class_row", True)
        and pool
        in (
            "token",
            "distilled",
        )
    ):
        reason = "registers without positions beside a class token that has one"
    if reason is not None:
        raise CheckpointError(f"timm has no model with {reason}; convert to 'official'")


def _positions(fields: Fields) -> dict[str, Any]:
    positions = fields.get("positions") or "learned"
    given = {"kind": positions} if isinstance(positions, str) else dict(positions)
    if not (fields.get("transformer") or {}).get("add_position_embedding", True):
        given["kind"] = "none"
    return {"kind": "learned", **given}
