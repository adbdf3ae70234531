"""The JSON files that say of weights what their arrays do not show."""

import json
from pathlib import Path
from typing import Any

from vit_jax.checkpoints.arrays import read_metadata
from vit_jax.errors import CheckpointError

CONFIG, PROCESSOR = CONFIGS = ("config.json", "preprocessor_config.json")
OURS = "vit_jax"  # in a config.json that we wrote: what its format has no words for


def read_config(path: Path, name: str = CONFIG) -> dict[str, Any]:
    """Returns what a JSON file says that is inside the weights, beside them or in their folder.

    `write_weights` puts it inside a file that stands alone; {} where there is none.
    """
    inside = read_metadata(path).get(name) if path.is_file() else None
    file = (path if path.is_dir() else path.parent) / name
    if inside is None and not file.is_file():
        return {}
    try:
        config = json.loads(inside or file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: is no JSON object; it must hold the fields of a model")
    return config
