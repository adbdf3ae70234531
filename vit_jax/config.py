"""A config: all settings of `vit_jax.settings` with their values, checked.

Recipes and flags change these settings; `vit_jax.recipes` reads both.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from vit_jax.errors import ConfigError, nearest
from vit_jax.settings import KEYS
from vit_jax.settings.augreg import PRESETS, SET_BY_PRESETS
from vit_jax.settings.training import CLASS_SCORES, RECALLS

# Settings are read as attributes (config.pp.crop), whose types no type checker can know.
if TYPE_CHECKING:
    Config: TypeAlias = Any
else:
    Config = ConfigDict


def default_config() -> Config:
    """Returns all settings with their defaults; those that are None know their type."""
    nested: dict[str, Any] = {}
    for path, key in KEYS.items():
        *parents, name = path.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = placeholder(key.kind) if key.kind else key.default
    return ConfigDict(nested)


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns {"pp.crop": 224, …} for a ConfigDict or nested dict."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, (Mapping, ConfigDict)):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def given(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the nested dict of the settings that are not None."""
    pairs = {
        name: given(value) if isinstance(value, (Mapping, ConfigDict)) else value
        for name, value in config.items()
    }
    return {name: value for name, value in pairs.items() if value is not None and value != {}}


def to_json(config: Config) -> str:
    """Returns the settings as the text of `config.json`, which `--config` takes too."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def differences(
    old: Mapping[str, Any] | ConfigDict, new: Mapping[str, Any] | ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """Returns {key: (old, new)} for the settings that differ; lists and tuples are the same."""
    a, b = ({k: as_tuple(v) for k, v in flatten(c).items()} for c in (old, new))
    return {k: (a.get(k), b.get(k)) for k in a | b if a.get(k) != b.get(k)}


def as_tuple(value: Any) -> Any:
    """Turns lists into tuples, which JSON does not know, at every depth; NumPy's numbers too."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(as_tuple(item) for item in value) if isinstance(value, (list, tuple)) else value


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy, locked, with the values of {"pp.crop": 224, …} in place of its own."""
    copy = config.copy_and_resolve_references().unlock()
    copy.update_from_flattened_dict({path: as_tuple(value) for path, value in values.items()})
    return copy.lock()


def check_known(path: str, shown: str) -> None:
    """Raises ConfigError with the nearest name if no setting has this path."""
    if path not in KEYS:
        shown = " ".join(shown.split())  # a name from a file may hold anything
        if inside := next((key for key in KEYS if key.startswith(f"{path}.")), None):
            raise ConfigError(f"{shown}: is a group of settings; give one of it, such as {inside}")
        raise ConfigError(f"{shown}: no such setting{nearest(path, KEYS)}")


def validate(config: Config) -> None:
    """Raises ConfigError for the first setting, or pair of settings, that breaks its rule."""
    flat = flatten(config)
    for path, value in flat.items():
        key, rule = KEYS[path], KEYS[path].rule
        if value is None and key.kind is None:
            raise ConfigError(f"config.{path}=None: must have a value, such as {key.default!r}")
        _check_number(path, value, key.kind or type(key.default))
        if value is not None and rule is not None and not rule.allows(value):
            hint = nearest(str(value), rule.choices) if rule.choices else ""
            raise ConfigError(f"config.{path}={value!r} {rule.text}{hint}")
    _validate_pairs(flat)


def _check_number(path: str, value: Any, kind: type) -> None:
    """Refuses what Python takes for a number, and is none to train with."""
    if isinstance(value, bool) and kind in (int, float):
        raise ConfigError(f"config.{path}={value} must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"config.{path}={value} must be a finite number")


def _validate_pairs(flat: Mapping[str, Any]) -> None:
    if (flat["total_steps"] is None) == (flat["epochs"] is None):
        raise ConfigError(
            f"config.total_steps={flat['total_steps']} and config.epochs={flat['epochs']}: "
            "exactly one of the two must be given; set the other to None"
        )
    if flat["batch"] % flat["accum_steps"]:
        raise ConfigError(
            f"config.batch={flat['batch']} must be divisible by "
            f"config.accum_steps={flat['accum_steps']}"
        )
    if flat["pp.resize"] is not None and flat["pp.resize"] < flat["pp.crop"]:
        raise ConfigError(
            f"config.pp.resize={flat['pp.resize']} must be at least "
            f"config.pp.crop={flat['pp.crop']}"
        )
    if flat["keep_best"] is not None:
        _validate_best(flat["keep_best"], flat)
    _validate_moment(flat)
    _validate_augmentation(flat)
    if flat["task"] == "contrast":
        _validate_contrast(flat)


def _validate_best(score: str, flat: Mapping[str, Any]) -> None:
    if flat["checkpoint_every"] % flat["eval_every"]:
        raise ConfigError(
            f"config.keep_best={score!r}: every checkpoint must be evaluated; make "
            f"config.checkpoint_every={flat['checkpoint_every']} a multiple of "
            f"config.eval_every={flat['eval_every']}"
        )
    ranked = flat["task"] == "contrast" and flat["captions"] == "files"
    scores = RECALLS if ranked else CLASS_SCORES
    if score not in scores:
        what = "images with captions" if ranked else "classes"
        raise ConfigError(
            f"config.keep_best={score!r}: {what} are not scored so, but by {', '.join(scores)}"
        )


def _validate_moment(flat: Mapping[str, Any]) -> None:
    """A bfloat16 has 8 bits: what would move it by less than 2**-8 of itself is rounded away."""
    name = "beta2" if flat["optimizer"] == "lion" else "beta1"  # of the moment in optim_dtype
    decay = flat[name]
    if flat["optim_dtype"] == "bfloat16" and decay is not None and 1 - decay < 2**-8:
        raise ConfigError(
            f"config.{name}={decay} and config.optim_dtype='bfloat16': a moment that decays so "
            f"slowly stands still in bfloat16, beyond {1 - 2**-8:.3f}; give "
            "config.optim_dtype='float32'"
        )


# What has no meaning for images with captions, and what it must be left at.
_OF_CLASSES = {
    "augment.mixup": "a mixture of two images has no caption",
    "augment.cutmix": "a mixture of two images has no caption",
    "label_smoothing": "pairs have no labels",
    "sampling": "pairs have no classes",
    "num_classes": "pairs have no classes",
    "layer_decay": "two towers have blocks of two depths",
    "train_only": "config.lock_image says which tower is trained",
    "eval_drop_remainder": "pairs are all scored",
}


def _validate_contrast(flat: Mapping[str, Any]) -> None:
    for path, why in _OF_CLASSES.items():
        if flat[path] != KEYS[path].default:
            raise ConfigError(
                f"config.{path}={flat[path]!r} and config.task='contrast': {why}; leave it at "
                f"{KEYS[path].default!r}"
            )
    if (flat["augment.preset"] or "none") != "none":
        raise ConfigError(
            f"config.augment.preset={flat['augment.preset']!r} and config.task='contrast': presets "
            "mix images, and a mixture has no caption; give config.augment.randaugment"
        )
    if flat["accum_steps"] > 1:
        raise ConfigError(
            f"config.accum_steps={flat['accum_steps']} and config.task='contrast': every pair is "
            "compared with all others of the batch, which parts would not see; set it to 1, and "
            "save memory with config.model.transformer.remat"
        )
    if (flat["text.tokenizer"] == "bytes") != (flat["text.vocabulary"] is None):
        raise ConfigError(
            f"config.text.vocabulary={flat['text.vocabulary']!r} and "
            f"config.text.tokenizer={flat['text.tokenizer']!r}: 'bert' and 'sentencepiece' need a "
            "vocabulary, 'bytes' has none"
        )


def _validate_augmentation(flat: Mapping[str, Any]) -> None:
    if flat["augment.preset"] is not None:
        _validate_preset(flat["augment.preset"], flat)
    _validate_mixing(flat)
    if flat["augment.three_augment"] and flat["augment.color_jitter"]:
        raise ConfigError(
            f"config.augment.color_jitter={flat['augment.color_jitter']}: "
            "config.augment.three_augment has a colour jitter of its own; set one of the two"
        )
    if flat["batch"] % flat["augment.repeats"]:
        raise ConfigError(
            f"config.batch={flat['batch']} must be divisible by "
            f"config.augment.repeats={flat['augment.repeats']}"
        )


def _validate_mixing(flat: Mapping[str, Any]) -> None:
    asked = {f"augment.{name}": flat[f"augment.{name}"] for name in ("mixup", "cutmix")}
    preset = flat["augment.preset"]
    if "mixup" in PRESETS.get(preset or "none", {}):
        asked["augment.preset"] = preset
    path = next((path for path, value in asked.items() if value), None)
    if path is None:
        return
    if flat["batch"] // flat["accum_steps"] < 2:
        raise ConfigError(
            f"config.batch={flat['batch']} over config.accum_steps={flat['accum_steps']} gives "
            f"parts of one image, and config.{path}={asked[path]!r} mixes those of a part with "
            "each other: give parts of two or more, or mix none"
        )
    repeats = flat["augment.repeats"]
    if repeats > 1 and flat["accum_steps"] % max(1, flat["batch"] // repeats) == 0:
        raise ConfigError(
            f"config.accum_steps={flat['accum_steps']} and config.augment.repeats={repeats} of "
            f"config.batch={flat['batch']} put the copies of an image side by side in a part, so "
            f"that config.{path}={asked[path]!r} would mix it with itself: give fewer parts or "
            "repeats, or mix none"
        )


def _validate_preset(preset: str, flat: Mapping[str, Any]) -> None:
    for name in SET_BY_PRESETS:
        path = f"augment.{name}"
        default = KEYS[path].default
        if flat[path] != default:
            raise ConfigError(
                f"config.{path}={flat[path]!r} and config.augment.preset={preset!r}: the preset "
                f"decides it ({PRESETS[preset].get(name, default)!r}); leave one of the two at its "
                "default"
            )
