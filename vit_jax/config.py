"""Every setting of a run: its default, what it means and what it may be, in one place.

Recipes and flags change these settings; `vit_jax.recipes` reads both.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from vit_jax.errors import ConfigError, nearest

# Settings are read as attributes (config.pp.crop), whose types no type checker can know.
if TYPE_CHECKING:
    Config: TypeAlias = Any
else:
    Config = ConfigDict


class Rule(NamedTuple):
    """What a value must satisfy, as a function and in words."""

    holds: Callable[[Any], bool]
    text: str
    choices: tuple[str, ...] = ()


def _one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}", choices)


_POSITIVE = Rule(lambda value: value > 0, "must be positive")
_NOT_NEGATIVE = Rule(lambda value: value >= 0, "must not be negative")
_BELOW_ONE = Rule(lambda value: 0 <= value < 1, "must be at least 0 and below 1")
_AREA = Rule(
    lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
    "must be (low, high) with 0 < low <= high <= 1",
)
_COLOUR = Rule(lambda value: len(value) == 3, "must be three numbers: red, green, blue")
_SPREAD = Rule(lambda value: len(value) == 3 and min(value) > 0, "must be three positive numbers")
_PATCH = Rule(
    lambda value: len(value) == 2 and min(value) > 0,
    "must be (height, width) of a patch in pixels, such as (16, 16)",
)


class Key(NamedTuple):
    """A setting: its default (`None` reads "off" or "decided by the program") and its meaning."""

    default: Any
    meaning: str
    rule: Rule | None = None  # not asked of None
    kind: type | None = None  # the type, where the default is None


# Keys with the names of the official repository mean what they meant there.
KEYS: dict[str, Key] = {
    "seed": Key(0, "Seed of initialisation, order, augmentation and dropout.", _NOT_NEGATIVE),
    # Data
    "dataset": Key("digits", "'digits', or the path of an image folder ({train,test}/CLASS/*)."),
    "num_classes": Key(
        None, "Classes expected in the data; None takes what is there.", _POSITIVE, int
    ),
    "cache_bytes": Key(
        2**30,
        "Images of one size stay on the device whole if they take at most so many bytes.",
        _NOT_NEGATIVE,
    ),
    "decode_threads": Key(4, "Host threads that read and decode images.", _POSITIVE),
    "prefetch": Key(2, "Batches prepared ahead of the step.", _POSITIVE),
    "pp.train": Key("train", "Split to train on."),
    "pp.test": Key("test", "Split to evaluate on."),
    "pp.crop": Key(224, "Height and width of the images the model sees, in pixels.", _POSITIVE),
    "pp.resize": Key(
        None,
        "Evaluation: resize the shorter side to so many pixels, then take the central crop; "
        "None resizes straight to the crop size, as the official code does.",
        _POSITIVE,
        int,
    ),
    "pp.antialias": Key(
        False, "Smooth before shrinking; False is TensorFlow's plain bilinear, the official one."
    ),
    "pp.mean": Key((0.5, 0.5, 0.5), "Subtracted from the colours, which run from 0 to 1.", _COLOUR),
    "pp.std": Key((0.5, 0.5, 0.5), "Divides the colours after the mean is taken off.", _SPREAD),
    # Training augmentation
    "augment.crop_area": Key(
        None,
        "(low, high): train on a random crop that covers this share of the image (official: "
        "0.05, 1.0), with an aspect ratio between 3/4 and 4/3; None takes the whole image.",
        _AREA,
        tuple,
    ),
    "augment.flip": Key(False, "Mirror every second image, left to right."),
    "augment.rotate": Key(0.0, "Turn by up to so many degrees either way.", _NOT_NEGATIVE),
    "augment.shift": Key(0.0, "Move by up to this share of the side, down and across.", _BELOW_ONE),
    "augment.scale": Key(0.0, "Enlarge or shrink by up to this share.", _BELOW_ONE),
    "augment.mixup": Key(0.0, "alpha of mixup's Beta(alpha, alpha); 0 is off.", _NOT_NEGATIVE),
    # Model
    "model.model_name": Key(
        None, "A known model; None for one of your own, with all sizes given.", None, str
    ),
    "model.patches.size": Key(None, "(height, width) of a patch, in pixels.", _PATCH, tuple),
    "model.hidden_size": Key(None, "Width of a token.", _POSITIVE, int),
    "model.transformer.num_layers": Key(None, "Encoder blocks.", _POSITIVE, int),
    "model.transformer.num_heads": Key(None, "Attention heads of a block.", _POSITIVE, int),
    "model.transformer.mlp_dim": Key(None, "Hidden width of a block's MLP.", _POSITIVE, int),
    "model.transformer.mlp": Key(
        None, "A block's MLP; None is the official 'mlp'.", _one_of("mlp", "gated"), str
    ),
    "model.transformer.dropout_rate": Key(
        None, "Dropout after attention, MLP and positions.", _BELOW_ONE, float
    ),
    "model.transformer.attention_dropout_rate": Key(
        None, "Dropout of the attention weights.", _BELOW_ONE, float
    ),
    "model.resnet.num_layers": Key(None, "Hybrids: units of each ResNet stage.", None, tuple),
    "model.resnet.width_factor": Key(None, "Hybrids: width of the ResNet over 64.", None, int),
    "model.stem": Key(
        None, "Convolutions in place of patches; None is none.", _one_of("conv", "cct"), str
    ),
    "model.classifier": Key(None, "'token' or 'gap': what the head reads.", None, str),
    "model.pool": Key(
        None,
        "What the head reads, whatever the classifier says; None is what that says.",
        _one_of("token", "mean", "sequence", "attention"),
        str,
    ),
    "model.representation_size": Key(None, "Width of the layer before the head.", _POSITIVE, int),
    "model.head_bias_init": Key(None, "First value of the head's bias.", None, float),
    "model.num_blocks": Key(None, "Mixer: blocks.", _POSITIVE, int),
    "model.hidden_dim": Key(None, "Mixer: width of a token.", _POSITIVE, int),
    "model.tokens_mlp_dim": Key(None, "Mixer: width of the MLP over tokens.", _POSITIVE, int),
    "model.channels_mlp_dim": Key(None, "Mixer: width of the MLP over channels.", _POSITIVE, int),
    "dtype": Key(
        None,
        "Dtype of computation; None takes bfloat16 on GPU and TPU, float32 on CPU. Parameters, "
        "statistics, softmax, logits and loss are float32 always.",
        _one_of("float32", "bfloat16"),
        str,
    ),
    # Optimisation
    "total_steps": Key(None, "Steps of the optimiser; or give epochs.", _POSITIVE, int),
    "epochs": Key(None, "Passes over the training split; or give total_steps.", _POSITIVE, float),
    "batch": Key(512, "Images a step, over all devices and accumulated parts.", _POSITIVE),
    "accum_steps": Key(1, "Parts a batch is computed in, to save memory.", _POSITIVE),
    "optimizer": Key(
        "sgd",
        "'sgd' with momentum is the official fine-tuning.",
        _one_of("sgd", "adamw", "lion", "lamb"),
    ),
    "optim_dtype": Key(
        "bfloat16", "Dtype of the (first) momentum.", _one_of("float32", "bfloat16")
    ),
    "base_lr": Key(0.03, "Learning rate after the warm-up.", _POSITIVE),
    "decay_type": Key(
        "cosine", "Schedule after the warm-up.", _one_of("cosine", "linear", "constant")
    ),
    "warmup_steps": Key(500, "Steps over which the learning rate rises from 0.", _NOT_NEGATIVE),
    "weight_decay": Key(
        0.0, "Decoupled decay of kernels; biases, norms and tokens have none.", _NOT_NEGATIVE
    ),
    "beta1": Key(0.9, "Decay of the first moment; the momentum of SGD.", _BELOW_ONE),
    "beta2": Key(0.999, "Decay of the second moment (Adam family, Lion).", _BELOW_ONE),
    "grad_norm_clip": Key(1.0, "Largest global norm of the gradient; 0 is off.", _NOT_NEGATIVE),
    "label_smoothing": Key(0.0, "Share of a label spread over all classes.", _BELOW_ONE),
    "ema_decay": Key(
        0.0, "Running average of the parameters, evaluated in their place; 0 is off.", _BELOW_ONE
    ),
    # Devices
    "mesh.data": Key(
        None, "Devices that split the batch; None takes all that are left.", _POSITIVE, int
    ),
    "mesh.fsdp": Key(
        1, "Devices that split the batch and hold the parameters in shares.", _POSITIVE
    ),
    "mesh.tensor": Key(1, "Devices that share the heads and the MLP of each block.", _POSITIVE),
    # The run
    "batch_eval": Key(
        512, "Images a step of evaluation; the score does not depend on it.", _POSITIVE
    ),
    "progress_every": Key(10, "Steps between two lines of training metrics.", _POSITIVE),
    "eval_every": Key(
        100, "Steps between two evaluations; the last step is always evaluated.", _POSITIVE
    ),
    "checkpoint_every": Key(
        1000, "Steps between two checkpoints; the last step is always saved.", _POSITIVE
    ),
    "keep_checkpoints": Key(2, "Newest checkpoints kept.", _POSITIVE),
}

# Official keys that nothing is left to do for, with the reason: accepted and dropped.
RETIRED = {
    "shuffle_buffer": "every epoch is a full permutation and needs no buffer",
    "trainer": "the sub-command says what to run",
    "log_config": "settings are always written to config.json",
}

# What may differ between a workdir and the command that resumes it: no number it reports depends
# on these, or (the mesh) only by the order of float additions.
HARMLESS = frozenset({
    "cache_bytes",
    "decode_threads",
    "prefetch",
    "batch_eval",
    "checkpoint_every",
    "keep_checkpoints",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
})  # fmt: skip


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
    """Turns lists into tuples, which JSON does not know, at every depth."""
    return tuple(as_tuple(item) for item in value) if isinstance(value, (list, tuple)) else value


def check_known(path: str, shown: str) -> None:
    """Raises ConfigError with the nearest name if no setting has this path."""
    if path not in KEYS:
        raise ConfigError(f"{shown}: no such setting{nearest(path, KEYS)}")


def validate(config: Config) -> None:
    """Raises ConfigError for the first setting, or pair of settings, that breaks its rule."""
    flat = flatten(config)
    for path, value in flat.items():
        rule = KEYS[path].rule
        if value is not None and rule is not None and not rule.holds(value):
            hint = nearest(str(value), rule.choices) if rule.choices else ""
            raise ConfigError(f"config.{path}={value!r} {rule.text}{hint}")
    _validate_pairs(flat)


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
