"""The model card of released weights: README.md, with the header that the hub reads."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax.checkpoints.catalogue import list_published
from vit_jax.checkpoints.locations import shown
from vit_jax.config import default_config, flatten
from vit_jax.errors import ConfigError
from vit_jax.origin import Origin, describe
from vit_jax.pretrained import Trained
from vit_jax.records.metrics_file import scores_of
from vit_jax.settings import KEYS
from vit_jax.workdir import find_run, is_run

# Settings that say where something lies on this machine, and nothing of the model.
_PLACES = ("pretrained_dir", "tfds_data_dir", "tfds_manual_dir", "trackers")

# How each format is opened: the library, and a line of Python.
OPENED_BY = {
    "timm": ("timm", "timm.create_model('local-dir:FOLDER', pretrained=True)"),
    "transformers": ("transformers", "AutoModelForImageClassification.from_pretrained('FOLDER')"),
    "official": ("vit_jax", "vit_jax.load_pretrained('FOLDER')"),
    "big_vision": ("vit_jax", "vit_jax.load_pretrained('FOLDER')"),
}
_FROM_THE_HUB = {
    "timm": "timm.create_model('hf-hub:REPOSITORY', pretrained=True)",
    "transformers": "AutoModelForImageClassification.from_pretrained('REPOSITORY')",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a card says that weights do not; None for what nobody knows.

    Attributes:
      recipe: how the model was trained: a text, or settings.
      score: how well it does: a text, a number, or several by name.
      data: what it was trained on.
      licence: an identifier, such as "apache-2.0".
      repository: OWNER/NAME on the hub.
    """

    recipe: str | Mapping[str, Any] | None = None
    score: str | float | Mapping[str, float] | None = None
    data: str | None = None
    licence: str | None = None
    repository: str | None = None


def facts_of_run(run: Trained) -> Facts:
    """Returns what a run tells: settings without paths, scores of its step, name of its dataset."""
    defaults = flatten(default_config())
    changed = {
        key: Path(shown(value)).name if value and key in KEYS and KEYS[key].is_path else value
        for key, value in flatten(run.config).items()
        if value != defaults.get(key) and key not in _PLACES
    }
    scores = scores_of(run.workdir.metrics, run.step)
    data = Path(run.config.dataset).name
    return Facts({"step": run.step, **changed}, scores or None, data)


def facts_of_source(source: str | Path) -> Facts:
    """Returns what the catalogue knows of weights that are named as it names them."""
    for entry in list_published():
        if str(source) in (entry.name, *entry.aliases):
            return Facts(licence=entry.licence.lower())
    return Facts()


def check_licence(licence: str | None) -> None:
    """Raises `ConfigError` for what is no identifier."""
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
        raise ConfigError(f"licence {licence!r}: must be an identifier, such as apache-2.0 or mit")


def model_card(origin: Origin, format: str, facts: Facts) -> str:
    """Returns README.md of a released model."""
    check_licence(facts.licence)
    name = facts.repository.partition("/")[2] if facts.repository else _name(origin.where)
    what = describe(origin).partition(": ")[2]
    lines = [
        *("---", *_header(name, format, facts), "---", "", f"# {name}", ""),
        *(f"A Vision Transformer written by vit_jax: {what}.", "", "```python"),
        *(*_opened(format, facts.repository), "```"),
    ]
    sections = {
        "Data": facts.data,
        "Classes": ", ".join(origin.class_names) if origin.class_names else None,
        "Score": facts.score,
        "Recipe": facts.recipe,
        "Licence": facts.licence,
    }
    for heading, content in sections.items():
        if content is not None:
            lines += ["", f"## {heading}", "", _as_text(content)]
    return "\n".join(lines) + "\n"


def _name(where: str) -> str:
    """Returns the name of a file, a folder or a run; also of the run whose step is named."""
    return find_run(where)[0].root.name if is_run(where) else Path(where).name


def _header(name: str, format: str, facts: Facts) -> list[str]:
    """Returns lines of YAML; texts are written as JSON, which YAML reads."""
    lines = [f"library_name: {OPENED_BY[format][0]}", "pipeline_tag: image-classification"]
    if facts.licence is not None:
        lines.append(f"license: {facts.licence}")
    lines += ["tags:", "- image-classification", "- vit_jax"]
    if isinstance(facts.score, Mapping) and "test_accuracy" in facts.score and facts.data:
        found = [
            {"type": key.removeprefix("test_"), "value": value, "name": key}
            for key, value in facts.score.items()
        ]
        dataset = {"name": facts.data, "type": "image-classification", "split": "test"}
        task = {"type": "image-classification"}
        results = [{"task": task, "dataset": dataset, "metrics": found}]
        lines.append(f"model-index: {json.dumps([{'name': name, 'results': results}])}")
    return lines


def _opened(format: str, repository: str | None) -> list[str]:
    ours = "vit_jax.load_pretrained('{}')  # model, variables, preprocess"
    if repository is None:
        library, theirs = OPENED_BY[format]
        return [*([theirs] if library != "vit_jax" else []), ours.format("FOLDER")]
    theirs = _FROM_THE_HUB.get(format)
    lines = [theirs.replace("REPOSITORY", repository)] if theirs else []
    return [*lines, ours.format(f"hf://{repository}")]


def _as_text(value: str | float | Mapping[str, Any]) -> str:
    if isinstance(value, Mapping):
        return f"```json\n{json.dumps(value, indent=2, default=str)}\n```"
    return str(value)
