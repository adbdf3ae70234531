"""From what a user names as a source of weights to files on this machine."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax import timm_names
from vit_jax.checkpoints import hub
from vit_jax.checkpoints.catalogue import Published, list_published, published
from vit_jax.checkpoints.config_files import CONFIG, CONFIGS, PROCESSOR, read_config
from vit_jax.checkpoints.download import fetch
from vit_jax.checkpoints.formats import holds_weights
from vit_jax.checkpoints.kinds import INDEX, NPZ, SINGLE
from vit_jax.checkpoints.locations import REMOTE, cached_name, scheme
from vit_jax.checkpoints.released_lit import released
from vit_jax.errors import AbsentError, CheckpointError, nearest
from vit_jax.runtime import cache

logger = logging.getLogger("vit_jax")

_ENDINGS = (".npz", ".safetensors")
_SHOWN = 5  # files named in an error


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
      source: the path of a file, or of a folder with one; a URL of https, hf or gs, where
        hf://OWNER/NAME, with or without @REVISION, means its model.safetensors or model.npz; or a
        name of the catalogue or of timm.

    Raises:
      CheckpointError: there is no such file or name, or it cannot be downloaded.
    """
    text = str(source)
    if scheme(text) in REMOTE:
        return _remote(text)
    path = Path(text.removeprefix("file://")).expanduser()
    if path.exists():
        return _local(path)
    if path.parent == Path() or not path.parent.is_dir():  # a name, and no path
        if (lit := released(text)) is not None:
            return Located(fetch(lit.weights))
        return _named(text)
    siblings = [one.name for one in path.absolute().parent.iterdir()]
    raise CheckpointError(f"{source}: no such file or folder{nearest(path.name, siblings)}")


def _local(path: Path) -> Located:
    """A file or folder with its configs; an npz that the catalogue knows by its name has more."""
    if path.is_dir():
        path = _in_folder(path)
    located = Located(path, *(read_config(path, name) for name in CONFIGS))
    known = _known_by_stem(path) if path.suffix == ".npz" and not located.config else None
    if known is None:
        return located
    logger.info("%s: by its name, prepared and activated as %s", path, known.name)
    return dataclasses.replace(located, **_said(known))


def _in_folder(folder: Path) -> Path:
    """Returns the file of weights in a folder, or the folder of a safetensors model itself.

    A file of any name will do where it is the only one in the folder with arrays of a known format.
    """
    if any((folder / name).is_file() for name in (INDEX, SINGLE)):
        return folder
    if (folder / NPZ).is_file():
        return folder / NPZ
    files = (one for one in sorted(folder.iterdir()) if one.suffix in _ENDINGS)
    found = [file for file in files if holds_weights(file)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CheckpointError(f"{folder}: holds {names}{more}; name one of these files")
    return found[0] if found else folder


def _known_by_stem(path: Path) -> Published | None:
    """Returns catalogue weights of that architecture, where all of them are used in one way."""
    same = [one for one in list_published() if path.stem in (one.name.split(".")[0], *one.aliases)]
    ways = {(one.activation, one.epsilon, one.preparation) for one in same}
    return same[0] if len(ways) == 1 else None


def _named(name: str) -> Located:
    """A name of the catalogue, or of other weights that timm has on the hub."""
    timm = timm_names.parse(name)
    if timm is None or timm.weights in {one.name for one in list_published()}:
        return _published(published(name))
    if timm.weights is None:
        raise CheckpointError(
            f"{name}: nobody has published such weights; vit_jax.create_model({name!r}) builds it "
            "with initial values"
        )
    return _remote(f"hf://timm/{timm.weights}/{SINGLE}")


def _published(entry: Published) -> Located:
    """Fetches the first source of an entry that can be had."""
    problems = []
    for source in entry.sources:
        try:
            located = _remote(source.url, source.sha256)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return dataclasses.replace(located, **_said(entry))
    raise CheckpointError(f"{entry.name}: cannot be had: {'; '.join(problems)}")


def _said(entry: Published) -> dict[str, Any]:
    encoder = {"activation": entry.activation, "epsilon": entry.epsilon}
    return {
        "fields": {**entry.fields, "transformer": encoder},
        "preprocess": dataclasses.asdict(entry.preparation),
    }


def _remote(url: str, sha256: str | None = None) -> Located:
    """A remote file with the configs that lie beside it; a repository of the hub has its own."""
    if scheme(url) == "hf" and url.removeprefix("hf://").strip("/").count("/") == 1:
        return _repository(url)
    path = fetch(url, sha256=sha256)
    if not url.endswith(".safetensors"):
        return Located(path, read_config(path))  # inside it, if anywhere
    return _with_configs(path, url)


def _repository(url: str) -> Located:
    """The weights of a whole repository with their configs, all of one commit."""
    base, reasons = hub.pinned(url), []
    for name in (SINGLE, NPZ):
        try:
            path = fetch(f"{base}/{name}")
        except CheckpointError as error:
            reasons.append(str(error))
        else:
            return _with_configs(path, f"{base}/{name}")
    raise CheckpointError(f"{url}: {'; '.join(reasons)}")


def _with_configs(path: Path, url: str) -> Located:
    """A file with what lies beside its URL; timm's config leaves nothing to a second one."""
    config = _beside(url, CONFIG)
    return Located(path, config, {} if "architecture" in config else _beside(url, PROCESSOR))


def _beside(url: str, name: str) -> dict[str, Any]:
    """Returns what a config says; {} where there is none, which no failure to get it means.

    That there is none is noted in the cache, for the times without a network.
    """
    place = f"{url.rpartition('/')[0]}/{name}"
    note = f"absent/{cached_name(place)}.json"
    try:
        file = fetch(place)
    except AbsentError:
        cache.write_json(note, True)
        return {}
    except CheckpointError:
        if cache.read_json(note) is True:
            return {}
        raise
    return read_config(file.parent, file.name)
