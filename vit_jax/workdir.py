"""The folder a run leaves behind: settings, metrics, checkpoints and report."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vit_jax import config as configs
from vit_jax.checkpoints.atomic import replacing
from vit_jax.checkpoints.integrity import sync
from vit_jax.config import Config, as_tuple, check_known, differences, flatten, to_json
from vit_jax.errors import CheckpointError, ConfigError, nearest
from vit_jax.settings import FIXED, FROM_DATA, FROM_WEIGHTS, HARMLESS, KEYS

_WEIGHTS = ("model_or_filename", "pretrained_dir")


class Workdir:
    """Paths inside a run's folder, and the settings it belongs to."""

    def __init__(self, root: str | Path):
        self.given = str(root)  # as the user wrote it, for commands that are printed
        self.root = Path(root).expanduser().absolute()
        self.config = self.root / "config.json"
        self.metrics = self.root / "metrics.jsonl"
        self.digests = self.root / "digests.jsonl"
        self.changes = self.root / "changes.jsonl"
        self.checkpoints = self.root / "checkpoints"
        self.report = self.root / "report"
        self.vocabulary = self.root / "vocabulary"

    def check(self, config: Config, changed: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
        """Compares settings with those of the run that the folder belongs to, if there is one.

        Args:
          config: all settings.
          changed: those that may differ although numbers will.

        Returns:
          {setting: (old, new)} of all that differ.

        Raises:
          ConfigError: a setting differs that changes numbers, and is not among `changed`; or one
            of `changed` is no setting, or decides what the saved state is made of.
        """
        self._check_changed(changed)
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"--workdir={self.given}: is a file; name a folder")
        if not self.config.exists():
            return {}
        # The last batch is left out then, and its size decides which images those are.
        counts = {"batch_eval"} if config.eval_drop_remainder else set()
        found = differences(self.settings(), config)
        allowed = (HARMLESS - counts) | set(changed)
        refused = {key: values for key, values in found.items() if key not in allowed}
        if refused:
            free = [key for key in refused if key not in FIXED]
            meant = f"; if they are meant to change, give --changed={','.join(free)}"
            raise ConfigError(
                f"--workdir={self.given}: holds a run with other settings ({shown(refused)}); use "
                f"another workdir, or --config={self.config} to go on with that run"
                + (meant if len(free) == len(refused) else "")
            )
        return found

    def _check_changed(self, changed: Collection[str]) -> None:
        for key in changed:
            check_known(key, f"--changed={key}")
            if key in FIXED:
                raise ConfigError(
                    f"--changed={key}: the state in {self.given} was made with it and fits no "
                    "other; use another workdir"
                )

    def adopt(self, config: Config, step: int, found: Mapping[str, tuple[Any, Any]]) -> None:
        """Makes these the settings of the run, which goes on with them from `step`.

        Differences that change numbers are noted in `changes.jsonl`: the run is then no longer a
        function of its `config.json` alone.
        """
        noted = {key: list(values) for key, values in found.items() if key not in HARMLESS}
        if noted:
            with self.changes.open("a") as file:
                file.write(json.dumps({"step": step, "settings": noted}) + "\n")
            sync(self.changes)
        self.write_config(config)

    def inherited(self, config: Config) -> Config:
        """Returns the config with what the run here took from its pretrained weights or its data.

        The weights are then not needed to go on: their file may be gone. A decay that is left open
        stays what the run has.
        """
        if not self.config.exists():
            return config
        old, new = self.settings(), flatten(config)
        same_weights = all(old.get(key) == new[key] for key in _WEIGHTS)
        keys = {"beta2"}
        if same_weights and any(map(new.get, _WEIGHTS)):
            keys.update(FROM_WEIGHTS)
        if same_weights and old.get("pp.from_data") and new["pp.from_data"]:
            keys.update(FROM_DATA)
        taken = {
            key: as_tuple(old[key])
            for key in sorted(keys)
            if new[key] is None and old.get(key) is not None
        }
        return configs.changed(config, taken)

    def write_config(self, config: Config) -> None:
        """Writes `config.json`, whole or not at all, and onto the disk itself."""
        with replacing(self.config) as file:
            file.write(to_json(config).encode())

    def keep_vocabulary(self, content: bytes) -> None:
        """Copies the tokenizer's file, whole or not at all: the run then needs no other."""
        if content and not self.vocabulary.exists():
            with replacing(self.vocabulary) as file:
                file.write(content)

    def settings(self) -> dict[str, Any]:
        """Returns {"pp.crop": 224, …} of the run; what is newer than it had its default then."""
        return {path: key.default for path, key in KEYS.items()} | flatten(self.read_config())

    def read_config(self) -> dict[str, Any]:
        """Returns what `config.json` holds."""
        try:
            return json.loads(self.config.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.config}: not readable as JSON: {error}") from error


def shown(found: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns differences of settings as text."""
    return ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in found.items())


def is_run(path: str | Path) -> bool:
    """Whether a path is that of a run's folder, or of a step inside it."""
    given = Path(path).expanduser()
    is_step = given.parent.name == "checkpoints" and given.name.isdigit()
    return is_step or (given / "checkpoints").is_dir()


def find_run(path: str | Path) -> tuple[Workdir, int | None]:
    """Returns the workdir, and the step where `path` is a step's folder inside it.

    Raises:
      CheckpointError: there is no such run.
    """
    given = Path(path).expanduser()
    if given.parent.name == "checkpoints" and given.name.isdigit():
        return Workdir(given.parent.parent), int(given.name)
    if not given.is_dir():
        parent = given.absolute().parent
        siblings = [one.name for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []
        raise CheckpointError(f"{path}: no such workdir{nearest(given.name, siblings)}")
    if not (given / "checkpoints").is_dir():
        raise CheckpointError(f"{path}: holds no checkpoints; it is not the workdir of a run")
    return Workdir(path), None
