"""The named architectures: the official names, the aliases people type, and their fields."""

import copy
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from vit_jax import timm_names
from vit_jax.errors import ConfigError, nearest
from vit_jax.models.compact import COMPACT
from vit_jax.models.encoder import Encoder
from vit_jax.models.lit import LitModel
from vit_jax.models.mixer import MlpMixer
from vit_jax.models.resnet import ResNet
from vit_jax.models.sizes import SIZES, mixer_fields, vit_fields
from vit_jax.models.text import TEXT_MODELS
from vit_jax.models.timm import timm_fields
from vit_jax.models.vit import STEMS, VisionTransformer

Model = VisionTransformer | MlpMixer | LitModel


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """What sets one official Transformer apart; `patch` counts pixels of a ResNet's output."""

    size: str
    patch: int
    dropout: float = 0.0
    classifier: str = "token"
    resnet: tuple[int, ...] | None = None


_ARCHITECTURES = {
    "testing": _Architecture("testing", 16, dropout=0.1),
    "testing-unpooled": _Architecture("testing", 16, dropout=0.1, classifier="unpooled"),
    "ViT-Ti_16": _Architecture("Ti", 16),
    "ViT-S_16": _Architecture("S", 16),
    "ViT-B_16": _Architecture("B", 16),
    "ViT-L_16": _Architecture("L", 16, dropout=0.1),
    "ViT-H_14": _Architecture("H", 14, dropout=0.1),
    "ViT-S_16-gap-norep": _Architecture("S", 16, classifier="gap"),
    "ViT-B_16-gap-norep": _Architecture("B", 16, classifier="gap"),
    "ViT-B_8": _Architecture("B", 8),
    "ViT-S_32": _Architecture("S", 32),
    "ViT-B_32": _Architecture("B", 32),
    "ViT-L_32": _Architecture("L", 32),
    "ViT-S_32-gap-norep": _Architecture("S", 32, classifier="gap"),
    "ViT-B_32-gap-norep": _Architecture("B", 32, classifier="gap"),
    "R+ViT-Ti_16": _Architecture("Ti", 8, resnet=()),
    "R50+ViT-B_16": _Architecture("B", 1, dropout=0.1, resnet=(3, 4, 9)),
    "R26+ViT-B_32": _Architecture("B", 1, resnet=(2, 2, 2, 2)),
    "R26+ViT-S_32": _Architecture("S", 1, resnet=(2, 2, 2, 2)),
    "R50+ViT-L_32": _Architecture("L", 1, dropout=0.1, resnet=(3, 4, 6, 3)),
}

_MIXERS = {"Mixer-B_16": ("B", 16), "Mixer-B_32": ("B", 32), "Mixer-L_16": ("L", 16)}

# Image tower, text tower (a BERT, or the size of a Transformer), widths of their heads
# (arXiv:2111.07991, table 1 and the official repository's README).
_LITS: dict[str, tuple[str, str, tuple[int | None, int]]] = {
    "LiT-B16B": ("ViT-B_16", "base", (768, 768)),
    "LiT-B16B_2": ("ViT-B_16", "base", (None, 768)),
    "LiT-L16L": ("ViT-L_16", "large", (None, 1024)),
    "LiT-L16S": ("ViT-L_16", "S", (None, 1024)),
    "LiT-L16Ti": ("ViT-L_16", "Ti", (None, 1024)),
}

# What a model without a name must be given.
_OWN_FIELDS = {
    VisionTransformer: {"patches", "hidden_size", "transformer"},
    MlpMixer: {"patches", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"},
    LitModel: {"image", "text_model", "text", "pp", "out_dim"},
}


def list_models() -> list[str]:
    """Returns the names: official classifiers in the official order, compact ones, LiT models."""
    return list(_NAMED)


def canonical_name(name: str) -> str:
    """Returns the official name for a name or an alias, or raises `ConfigError`.

    Case, punctuation and "ViT" do not count: "vit_b16", "ViT-B/16" and "B/16" are "ViT-B_16", and
    "r50_vit_b16" and "r50_b16" are "R50+ViT-B_16". A name of timm is its own, without the tag.
    """
    if (known := timm_names.parse(name)) is not None:
        return known.architecture
    if (official := _by_alias().get(_bare(name))) is not None:
        return official
    raise ConfigError(f"model {name!r} is unknown{_nearest(name)} (vit_jax models lists them)")


@functools.cache
def _by_alias() -> dict[str, str]:
    return {_bare(official): official for official in _NAMED}


def model_fields(name: str) -> dict[str, Any]:
    """Returns a fresh nested dict of the constructor fields, those of the official config."""
    if (known := timm_names.parse(name)) is not None:
        return timm_fields(known)
    return copy.deepcopy(_NAMED[canonical_name(name)][1])


def _nearest(name: str) -> str:
    """Returns the hint with the known name that is closest, in the form of names like this one."""
    if timm_names.looks_like_one(name):
        return nearest(name, [*timm_names.names(), *_NAMED])
    near = nearest(_bare(name), _by_alias())  # in the form in which punctuation does not count
    for alias, official in _by_alias().items():
        near = near.replace(f"{alias!r}", f"{official!r}")
    return near


def _vit_fields(name: str, architecture: _Architecture) -> dict[str, Any]:
    fields = vit_fields(architecture.size, architecture.patch, architecture.dropout)
    fields |= {"model_name": name, "classifier": architecture.classifier}
    if architecture.resnet is not None:
        fields["resnet"] = {"num_layers": architecture.resnet, "width_factor": 1}
    return fields


def _lit_fields(
    name: str, image: str, text: str, out_dim: tuple[int | None, int]
) -> dict[str, Any]:
    bert = text not in SIZES
    width, mlp_dim, num_heads, num_layers = SIZES.get(text, (0, 0, 0, 0))
    transformer = {"width": width, "num_layers": num_layers, "mlp_dim": mlp_dim}
    return {
        "model_name": name,
        "out_dim": out_dim,
        "image": _vit_fields(image, _ARCHITECTURES[image]),
        "text_model": "bert" if bert else "text_transformer",
        "text": (
            {"config": text}
            if bert
            else transformer | {"num_heads": num_heads, "vocab_size": 16_000}
        ),
        "pp": {"tokenizer_name": "bert" if bert else "sentencepiece", "size": 224, "max_len": 16},
    }


# Each name's class and constructor fields.
_NAMED: dict[str, tuple[type[Model], dict[str, Any]]] = {
    **{name: (VisionTransformer, _vit_fields(name, a)) for name, a in _ARCHITECTURES.items()},
    **{name: (MlpMixer, {"model_name": name, **mixer_fields(*m)}) for name, m in _MIXERS.items()},
    **{name: (VisionTransformer, fields) for name, fields in COMPACT.items()},
    **{name: (LitModel, _lit_fields(name, *towers)) for name, towers in _LITS.items()},
}


def create_model(
    name: str | None, num_classes: int | EllipsisType | None = ..., **fields: Any
) -> Model:
    """Builds a named model, or one of your own; `fields` are, or override, constructor fields.

    A name is one of `list_models`, or one of timm's ("vit_base_patch16_224.augreg_in21k"), which
    means what timm builds by it. Without `num_classes` a model has 1000, or those of timm's name.
    A mapping is merged into the named one: `transformer={"dropout_rate": 0.1}` changes one rate.
    With None for a name, `patches` (or a `stem`), `hidden_size` and `transformer` must be given,
    or, for an `MlpMixer`, `num_blocks` and its other sizes, or, for a `LitModel`, `text_model` and
    its other fields. A `LitModel` has no classes: `num_classes` is not read. `ConfigError` for an
    unknown name, a field that the model's class does not have, or a missing one.
    """
    family = _family(name, fields)
    _check_fields(f"{family.__name__} field", fields, _field_names(family))
    if name is None and (missing := _missing(family, fields)):
        raise ConfigError(
            f"model_name=None: a model of your own also needs {', '.join(missing)}; give "
            f"them, or name one of {', '.join(_NAMED)}"
        )
    merged = model_fields(name) if name is not None else {}
    if fields.get("stem", merged.get("stem")) != merged.get("stem"):
        merged["stem_fields"] = None  # those of the named model's own stem
    merged = _merge(merged, fields)
    if family is LitModel:
        return _lit_model(merged)
    merged.setdefault("patches", None)
    _check_nested_fields(merged)
    if isinstance(num_classes, EllipsisType):
        timm_name = timm_names.parse(name or "")
        num_classes = timm_name.num_classes if timm_name is not None else 1000
    return family(num_classes=num_classes, **merged)


def _family(name: str | None, fields: Mapping[str, Any]) -> type[Any]:
    """The class of a named model; without a name, the blocks of a Mixer or a text tower tell."""
    if name is not None and timm_names.parse(name) is None:
        return _NAMED[canonical_name(name)][0]
    if name is not None:
        fields = model_fields(name)
    if "text_model" in fields:
        return LitModel
    return MlpMixer if "num_blocks" in fields else VisionTransformer


def _lit_model(fields: dict[str, Any]) -> LitModel:
    """Builds it from fields that its towers have, or raises `ConfigError`."""
    _check_fields("image field", fields["image"], _field_names(VisionTransformer))
    _check_nested_fields(fields["image"])
    if tower := TEXT_MODELS.get(fields["text_model"]):
        _check_fields("text field", fields["text"], _field_names(tower))
    _check_fields("pp field", fields["pp"], ["tokenizer_name", "size", "max_len"])
    return LitModel(**fields)


def _missing(family: type[Model], fields: Mapping[str, Any]) -> list[str]:
    """The fields that a model without a name still needs; another stem replaces the patches."""
    known = {*fields, "patches"} if fields.get("stem") else {*fields}
    return sorted(_OWN_FIELDS[family] - known)


def _bare(name: str) -> str:
    """The part of a name that counts: "ViT-B_16" -> "b16", "R50+ViT-B_16" -> "r50b16"."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("vit", "")


# A field that may be a name alone or a mapping, and what the name is called in the mapping.
NAMED_FIELDS = {"attention": "kernel", "positions": "kind"}


def _merge(old: Any, new: Any) -> dict[str, Any]:
    """Lays fields over fields, mappings over mappings at every depth."""
    merged: dict[str, Any] = dict(old.items())
    for key, value in new.items():
        before = merged.get(key)
        if key in NAMED_FIELDS and _is_mapping(before) and isinstance(value, str):
            value = {NAMED_FIELDS[key]: value}
        if key in NAMED_FIELDS and _is_mapping(value) and isinstance(before, str):
            before = {NAMED_FIELDS[key]: before}
        if _is_mapping(value):
            value = _merge(before if _is_mapping(before) else {}, value)
        merged[key] = value
    return merged


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping | ConfigDict)


def _field_names(module: type[nn.Module]) -> list[str]:
    """The constructor fields of a module, without those that flax adds to every module."""
    names = [field.name for field in dataclasses.fields(module)]
    return [name for name in names if name not in ("parent", "name")]


def _check_nested_fields(fields: Mapping[str, Any]) -> None:
    known = {
        "patches": ["size"],
        "transformer": _field_names(fields.get("encoder", Encoder)),
        "resnet": _field_names(ResNet),
    }
    if (stem := fields.get("stem")) in STEMS:
        known["stem_fields"] = [
            name for name in _field_names(STEMS[stem]) if name not in ("hidden_size", "dtype")
        ]
    for key, names in known.items():
        _check_fields(f"{key} field", fields.get(key) or {}, names)


def _check_fields(what: str, given: Iterable[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(
                f"{what} {name!r} is unknown{nearest(name, known)} "
                f"(the fields are {', '.join(known)})"
            )
