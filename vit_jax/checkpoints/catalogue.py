"""The published weights: where they are, what they are, and what they expect of an image.

The facts are in `catalogue.json`, one line for each. They come from the official repository (its
README, and the listing of its buckets in vit_jax.ipynb), from timm's pretrained configurations and
results, and from the file lists of the Hugging Face hub. What no source states is left out: there
is no SHA-256 yet, as nobody publishes them.
"""

import dataclasses
import fnmatch
import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vit_jax import timm_names
from vit_jax.errors import CheckpointError, ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Source:
    """One file that holds the weights.

    Attributes:
      url: gs:// (an npz of the official layout) or hf:// (safetensors of timm or transformers).
      sha256: of the file, where it is known.
      head: whether the classifier is in it; copies on the hub may lack that of ImageNet-21k.
    """

    url: str
    sha256: str | None = None
    head: bool = True


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How an image is made ready for the weights.

    Attributes:
      size: (height, width) in pixels.
      resize: the shorter side before the central crop; None resizes straight to `size`.
      interpolation: "bilinear" or "bicubic".
      antialias: smooth before shrinking.
      mean, std: per colour, for values from 0 to 1.
    """

    size: tuple[int, int]
    resize: int | None
    interpolation: str
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that somebody has published.

    Attributes:
      name: architecture.tag, that of timm where timm has them.
      architecture: one of the named models (`vit_jax models`); None if `fields` say all.
      fields: constructor fields beside the architecture's own.
      data: what they were trained on.
      num_classes: of the released head.
      accuracy: top-1 on the validation set of ImageNet-1k, in percent, and who reports it.
      recommended: whether the official README recommends it, for its pre-training accuracy.
      preparation: of images. Official weights were evaluated by the official preprocessing.
      activation: in the MLPs, as the weights were trained: also where a copy in timm's or
      transformers' format is read, whose libraries compute the erf form of GELU.
      epsilon: of the LayerNorms.
      licence: as SPDX writes it, and where that is stated.
      sources: in the order in which to try them. The official bucket comes last: it may refuse.
    """

    name: str
    architecture: str | None
    fields: Mapping[str, Any]
    data: str
    num_classes: int
    accuracy: float | None
    accuracy_source: str | None
    recommended: bool
    preparation: Preparation
    activation: str
    epsilon: float
    licence: str
    licence_source: str
    sources: tuple[Source, ...]

    @property
    def image_size(self) -> int:
        """The side of the square images, in pixels."""
        return self.preparation.size[0]

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names: FOLDER/FILE in the official bucket, an AugReg file name, OWNER/NAME."""
        return tuple(alias for source in self.sources for alias in _aliases(source.url))


def published(name: str) -> Published:
    """Returns the weights of a name or an alias; an ending ".npz" does not count.

    The name of an architecture ("ViT-Ti_16", "vit_ti16", "R+Ti/16") means its ImageNet-21k weights
    that the official README recommends; one of timm ("vit_base_patch16_224") those that timm takes.

    Raises:
      CheckpointError: no such weights; it gives the nearest name.
    """
    by_name = _by_name()
    known = name.removesuffix(".npz")
    timm = timm_names.parse(known)
    if timm is not None and timm.weights in by_name:
        return by_name[timm.weights]
    if known not in by_name and (recommended := _by_architecture().get(_bare(known))):
        return recommended
    if known not in by_name:
        raise CheckpointError(
            f"pretrained weights {name!r} are unknown{nearest(known, by_name)} "
            "(vit_jax models --pretrained lists them)"
        )
    return by_name[known]


def list_published() -> list[Published]:
    """Returns all published weights, sorted by name."""
    return sorted(_catalogue(), key=lambda entry: entry.name)


def matching(pattern: str | None) -> list[Published]:
    """Returns those whose name, alias, architecture or data has a part like `pattern`, by name.

    Args:
      pattern: a part of the text, in letters of either size, with the signs of a shell ("tiny",
        "*_384.*in1k"); None for all.

    Raises:
      ConfigError: there are none; it gives the nearest name.
    """
    sought = f"*{(pattern or '').lower()}*"
    found = [
        entry
        for entry in list_published()
        if any(fnmatch.fnmatchcase(text.lower(), sought) for text in _texts(entry))
    ]
    if not found:
        raise ConfigError(
            f"{pattern!r} is in no name of published weights{nearest(pattern or '', _by_name())}; "
            "leave it out to see all"
        )
    return found


def _texts(entry: Published) -> list[str]:
    return [entry.name, *entry.aliases, entry.architecture or "", entry.data]


def row(entry: Published) -> tuple[str, str, str, str, str, str, str]:
    """Returns texts: name, architecture, data, pixels, classes, top-1 and kinds of sources.

    An asterisk marks what the official README recommends.
    """
    return (
        f"{entry.name}{'*' if entry.recommended else ''}",
        entry.architecture or "",
        entry.data.replace("ImageNet-", "").replace(", then ", "+"),
        str(entry.image_size),
        str(entry.num_classes),
        "" if entry.accuracy is None else f"{entry.accuracy:.1f}",
        " ".join(dict.fromkeys(source.url.partition(":")[0] for source in entry.sources)),
    )


def pretrained_path(pretrained_dir: str, model_or_filename: str) -> str:
    """Returns the file that the official keys `pretrained_dir` and `model_or_filename` mean.

    A name with a hyphen is a file without its ending: "ViT-B_16", or that of an AugReg checkpoint.
    One without is an AugReg model ("R_Ti_16", "B_16"), and means its ImageNet-21k checkpoint of
    the best upstream accuracy. The official code looks that up in the bucket's index.csv; here it
    is the recommended one of the official README, which is chosen by the same figure.

    Args:
      pretrained_dir: a folder, or its URL.
      model_or_filename: as in the official config; ".npz" may stand at its end.

    Raises:
      CheckpointError: an AugReg model of which no checkpoint is recommended.
    """
    stem = model_or_filename.removesuffix(".npz")
    if "-" not in stem:
        recommended = _recommended()
        if stem not in recommended:
            raise CheckpointError(
                f"model_or_filename {model_or_filename!r}: no checkpoint is recommended for it"
                f"{nearest(stem, recommended)}; give one of {', '.join(sorted(recommended))}, or "
                "a file name of the bucket"
            )
        stem = recommended[stem]
    return f"{pretrained_dir.rstrip('/')}/{stem}.npz"


def _recommended() -> dict[str, str]:
    """Returns {AugReg model: file name} of the recommended checkpoints before fine-tuning."""
    stems = [
        alias
        for entry in _catalogue()
        if entry.recommended and entry.data == "ImageNet-21k"
        for alias in entry.aliases
        if "/" not in alias
    ]
    return {stem.split("-")[0]: stem for stem in stems}


def _aliases(url: str) -> Iterator[str]:
    scheme, _, path = url.partition("://")
    parts = path.split("/")
    if scheme == "hf":
        yield f"{parts[0]}/{parts[1].partition('@')[0]}"
        return
    stem = parts[-1].removesuffix(".npz")
    yield f"{parts[-2]}/{stem}"
    if parts[-2] == "augreg":  # only there do file names say all; a ViT-B_16 is in many folders
        yield stem


@functools.cache
def _by_name() -> dict[str, Published]:
    return {name: entry for entry in _catalogue() for name in (entry.name, *entry.aliases)}


def _by_architecture() -> dict[str, Published]:
    return {
        _bare(entry.architecture): entry
        for entry in _catalogue()
        if entry.recommended and entry.data == "ImageNet-21k" and entry.architecture
    }


def _bare(architecture: str) -> str:
    return re.sub(r"[^a-z0-9]|vit", "", architecture.lower())


@functools.cache
def _catalogue() -> tuple[Published, ...]:
    text = (
        importlib.resources.files("vit_jax.checkpoints")
        .joinpath("catalogue.json")
        .read_text("utf-8")
    )
    content = json.loads(text)
    families, reporters = content["families"], content["accuracy_sources"]
    return tuple(_entry(families[line["family"]] | line, reporters) for line in content["weights"])


def _entry(line: Mapping[str, Any], reporters: Mapping[str, str]) -> Published:
    reporter = line.get("accuracy_source")
    size = line["image_size"]
    return Published(
        name=line["name"],
        architecture=line["architecture"],
        fields=line.get("fields", {}),
        data=line["data"],
        num_classes=line["num_classes"],
        accuracy=line.get("accuracy"),
        accuracy_source=reporters[reporter] if reporter else None,
        recommended=line.get("recommended", False),
        preparation=Preparation(
            size=(size, size),
            resize=line["resize"],
            interpolation=line["interpolation"],
            antialias=line["antialias"],
            mean=tuple(line["mean"]),
            std=tuple(line["std"]),
        ),
        activation=line["activation"],
        epsilon=line["epsilon"],
        licence=line["licence"],
        licence_source=line["licence_source"],
        sources=tuple(
            Source(**source) if isinstance(source, dict) else Source(source)
            for source in line["sources"]
        ),
    )
