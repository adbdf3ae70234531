"""The config.json and preprocessor_config.json with which transformers opens a model of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.checkpoints.transformers import placeholders
from vit_jax.errors import CheckpointError

Fields = Mapping[str, Any]

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


def prefix(fields: Fields) -> str:
    """Returns what stands before the names of the encoder: nothing for a model without a head."""
    if not fields.get("num_classes"):
        return ""
    return "deit." if fields.get("pool") == "distilled" else "vit."


def transformers_config(
    fields: Fields, size: tuple[int, int], class_names: Sequence[str] | None
) -> dict[str, Any]:
    """Returns config.json of a ViT, or of a DeiT where there is a distillation token.

    Args:
      fields: of `create_model`.
      size: (height, width) of the images, in pixels.
      class_names: None where there are none.

    Raises:
      CheckpointError: a model that transformers does not have.
    """
    if "hidden_size" not in fields:
        raise CheckpointError("transformers has no Mixer; convert to 'official'")
    encoder = fields.get("transformer") or {}
    _check(fields, encoder)
    distilled, patch = fields.get("pool") == "distilled", tuple(fields["patches"]["size"])
    num_classes = fields.get("num_classes") or 0
    model = "DeiT" if distilled else "ViT"
    head = "ForImageClassificationWithTeacher" if distilled else "ForImageClassification"
    names = list(class_names or placeholders(num_classes))
    attention = encoder.get("attention") or {}
    config = {
        "architectures": [f"{model}{head if num_classes else 'Model'}"],
        "model_type": model.lower(),
        "hidden_size": fields["hidden_size"],
        "num_hidden_layers": encoder["num_layers"],
        "num_attention_heads": encoder["num_heads"],
        "intermediate_size": encoder["mlp_dim"],
        "hidden_act": "gelu" if encoder.get("activation") == "gelu_erf" else "gelu_pytorch_tanh",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": encoder.get("epsilon", 1e-6),
        "image_size": size[0] if size[0] == size[1] else list(size),
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "num_channels": 3,
        "qkv_bias": isinstance(attention, str) or attention.get("qkv_bias", True),
        "torch_dtype": "float32",
    }
    if num_classes:
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    if fields.get("representation_size"):
        config["pooler_output_size"] = fields["representation_size"]
    return config


def preprocessor_config(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Returns preprocessor_config.json from fields of a `Preprocess`.

    transformers smooths before shrinking whether these say so or not.
    """
    height, width = preprocess["size"]
    box = {"height": height, "width": width}
    config: dict[str, Any] = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": _RESAMPLE[preprocess["interpolation"]],
        "rescale_factor": 1 / 255,
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
    }
    if preprocess["resize"] is None:
        return {**config, "image_processor_type": "ViTImageProcessor", "size": box}
    return {  # the one of the plain processors that resizes the shorter side, then crops
        **config,
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": preprocess["resize"]},
        "do_center_crop": True,
        "crop_size": box,
    }


def _check(fields: Fields, encoder: Fields) -> None:
    """Raises CheckpointError for what names and shapes alone would not show to be absent there."""
    positions, attention = fields.get("positions") or {}, encoder.get("attention") or {}
    positions = {"kind": positions} if isinstance(positions, str) else positions
    reason = None
    if fields.get("stem"):
        reason = f"stem={fields['stem']!r}"
    elif fields.get("pool", None) not in (None, "token", "distilled"):
        reason = f"pool={fields['pool']!r}"
    elif fields.get("pool") is None and fields.get("classifier", "token") != "token":
        reason = f"classifier={fields['classifier']!r}"
    elif not isinstance(encoder.get("num_heads"), int):
        reason = "layers with different numbers of heads"
    elif not isinstance(attention, str) and attention.get("head_width"):
        reason = "heads of a width of their own"
    elif positions.get("kind", "learned") != "learned" or not positions.get("class_row", True):
        reason = f"positions={positions!r}"
    elif not encoder.get("add_position_embedding", True):
        reason = "tokens without positions"
    elif fields.get("representation_size") and fields.get("num_classes"):
        reason = "pre_logits before a head"
    if reason is not None:
        raise CheckpointError(
            f"transformers' ViT has no {reason}; convert to 'timm', or to 'official', which holds "
            "every model"
        )
