"""The image-text model that a config describes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from vit_jax.config import Config
from vit_jax.errors import ConfigError
from vit_jax.experiment import compute_dtype, model_fields
from vit_jax.models.inputs import example_inputs
from vit_jax.models.lit import LitModel
from vit_jax.models.vit import VisionTransformer
from vit_jax.models.zoo import create_model
from vit_jax.origin import name_or_sizes


def make_pair_model(config: Config, vocab_size: int) -> LitModel:
    """Returns the image tower of `config.model` beside the text tower of `config.text`.

    The image tower has no head: texts are mapped to where its features lie (arXiv:2111.07991).

    Args:
      config: all settings.
      vocab_size: how many tokens there are.

    Raises:
      ConfigError: an unknown name, a missing size, or sizes that do not fit together.
    """
    image = _image_fields(config)
    model = LitModel(
        image=image,
        text_model=config.text.tower,
        text=_text_fields(config, vocab_size),
        pp={
            "tokenizer_name": config.text.tokenizer,
            "size": config.pp.crop,
            "max_len": config.text.max_len,
        },
        out_dim=(None, image["representation_size"] or image["hidden_size"]),
        model_name=f"LiT of {name_or_sizes(image)} and {config.text.tower}",
        dtype=compute_dtype(config),
    )
    try:
        inputs = example_inputs(model, (config.pp.crop,) * 2)
        jax.eval_shape(model.init, jax.random.PRNGKey(0), *inputs)
    except ValueError as error:
        raise ConfigError(f"config.model and config.text: {error}") from error
    return model


def _image_fields(config: Config) -> dict[str, Any]:
    fields = model_fields(config)
    model = create_model(fields.pop("model_name", None), None, **fields)
    if not isinstance(model, VisionTransformer):
        raise ConfigError(
            f"config.model.model_name={config.model.model_name!r} and config.task='contrast': the "
            "image tower must be a Vision Transformer"
        )
    kept = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    for name in ("parent", "name", "num_classes", "dtype"):
        del kept[name]
    return kept


def _text_fields(config: Config, vocab_size: int) -> dict[str, Any]:
    text = config.text
    if text.hidden_size % text.num_heads:
        raise ConfigError(
            f"config.text.hidden_size={text.hidden_size} must be divisible by "
            f"config.text.num_heads={text.num_heads}"
        )
    if text.tower == "text_transformer":
        return {
            "width": text.hidden_size,
            "num_layers": text.num_layers,
            "num_heads": text.num_heads,
            "mlp_dim": text.mlp_dim,
            "dropout_rate": text.dropout_rate,
            "vocab_size": vocab_size,
        }
    sizes = {
        "hidden_size": text.hidden_size,
        "num_hidden_layers": text.num_layers,
        "num_attention_heads": text.num_heads,
        "intermediate_dim": text.mlp_dim,
        "vocab_size": vocab_size,
        "max_length": text.max_len,
        "dropout_rate": text.dropout_rate,
    }
    return {"config": sizes}


def image_tower(
    model: LitModel, variables: Mapping[str, Any]
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Returns the image tower as a model of its own, and its share of the variables."""
    tower = VisionTransformer(num_classes=None, dtype=model.dtype, **model.image)
    parts = {name: tree["img"] for name, tree in variables.items() if "img" in tree}
    return tower, parts
