"""From what a user names as a source of weights to files on this machine."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax.checkpoints.download import fetch
from vit_jax.checkpoints.formats import read_config
from vit_jax.checkpoints.locations import REMOTE, scheme
from vit_jax.errors import CheckpointError, nearest

CONFIGS = ("config.json", "preprocessor_config.json")


@dataclasses.dataclass(frozen=True)
class Located:
    """Weights on this machine.

    Attributes:
      path: a file, or a folder with model.safetensors.
      config, processor: what config.json and preprocessor_config.json beside it say; {} where there
        are none.
      fields: of `create_model`, that the catalogue knows and the file does not say.
      preprocess: fields of a `Preprocess` that the catalogue knows; None for none.
    """

    path: Path
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processor: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess: Mapping[str, Any] | None = None


def resolve(source: str | Path) -> Located:
    """Returns the files of a source, downloaded if need be.

    Args:
      source: a path; a URL of https, hf or gs, where hf://OWNER/NAME alone means its
        model.safetensors; or a name of the catalogue.

    Raises:
      CheckpointError: there is no such file or name, or it cannot be downloaded.
    """
    text = str(source)
    if scheme(text) in REMOTE:
        return _remote(text)
    path = Path(text.removeprefix("file://")).expanduser()
    if path.exists():
        return Located(path, *(read_config(path, name) for name in CONFIGS))
    folder = path.absolute().parent
    siblings = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    raise CheckpointError(f"{source}: no such file or folder{nearest(path.name, siblings)}")


def _remote(url: str) -> Located:
    """A remote file with the configs that lie beside it; a repository without them has none."""
    is_repository = scheme(url) == "hf" and url.removeprefix("hf://").strip("/").count("/") == 1
    if is_repository:
        url = f"{url.rstrip('/')}/model.safetensors"
    path = fetch(url)
    if not url.endswith(".safetensors"):
        return Located(path)
    return Located(path, *(_beside(url, name) for name in CONFIGS))


def _beside(url: str, name: str) -> dict[str, Any]:
    try:
        file = fetch(f"{url.rpartition('/')[0]}/{name}")
    except CheckpointError:
        return {}
    return read_config(file.parent, file.name)
