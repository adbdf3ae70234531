"""The weights that a run starts from and the devices it runs on, as the rules ask for them."""

from pathlib import Path

import jax

from vit_jax.checkpoints import architecture
from vit_jax.checkpoints.locations import scheme
from vit_jax.choosing.rules import Devices, Weights
from vit_jax.errors import ConfigError
from vit_jax.pretrained import open_origin

# The recommended ImageNet-21k weights of an architecture that the devices train in minutes: a step
# of the tiny one takes a quarter of the small one's operations.
DEFAULT, DEFAULT_ON_CPU = "vit_s16", "vit_ti16"


def find_devices() -> Devices:
    """Returns all devices of the run."""
    return Devices(jax.default_backend(), jax.device_count())


def model_or_default(model: str | None, devices: Devices) -> str:
    """Returns the weights that are asked for, or small ones; a path comes back absolute."""
    if model is None:
        return DEFAULT_ON_CPU if devices.platform == "cpu" else DEFAULT
    return located(model)


def located(model: str) -> str:
    """Returns a source of weights as any folder can name it: paths that exist are made absolute."""
    path = Path(model).expanduser()
    return str(path.absolute()) if not scheme(model) and path.exists() else model


def find_weights(model: str) -> Weights:
    """Reads what the rules ask of weights; those of a name or URL are downloaded.

    Raises:
      CheckpointError: no such weights.
      ConfigError: weights of an image-text model, which has no head to fine-tune.
    """
    origin = open_origin(model, {})
    if "text_model" in origin.fields:
        raise ConfigError(
            f"--model={model}: is an image-text model; its classes are told by texts (vit_jax "
            "zeroshot), or fine-tune another (vit_jax models --pretrained lists them)"
        )
    fields, size = origin.fields, min(origin.image_size)
    stem = fields.get("stem")
    patch = 1 if stem else max(architecture.pixels_of_patch(fields))
    return Weights(model, size, patch, any_size="hidden_dim" not in fields and not stem)
