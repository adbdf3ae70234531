"""The folder a run leaves behind: settings, metrics, checkpoints and report."""

import json
from pathlib import Path
from typing import Any

from vit_jax.config import Config, as_tuple, changed, differences, flatten, to_json
from vit_jax.errors import CheckpointError, ConfigError, nearest
from vit_jax.settings import FROM_WEIGHTS, HARMLESS

_WEIGHTS = ("model_or_filename", "pretrained_dir")


class Workdir:
    """Paths inside a run's folder, and the settings it belongs to."""

    def __init__(self, root: str | Path):
        self.given = str(root)  # as the user wrote it, for commands that are printed
        self.root = Path(root).expanduser().absolute()
        self.config = self.root / "config.json"
        self.metrics = self.root / "metrics.jsonl"
        self.digests = self.root / "digests.jsonl"
        self.checkpoints = self.root / "checkpoints"
        self.report = self.root / "report"

    def check(self, config: Config) -> None:
        """Raises ConfigError if the folder belongs to a run whose numbers would differ."""
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"--workdir={self.given}: is a file; name a folder")
        if not self.config.exists():
            return
        # The last batch is left out then, and its size decides which images those are.
        counts = {"batch_eval"} if config.eval_drop_remainder else set()
        found = {
            key: values
            for key, values in differences(self.read_config(), config).items()
            if key not in HARMLESS - counts
        }
        if found:
            shown = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in found.items())
            raise ConfigError(
                f"--workdir={self.given}: holds a run with other settings ({shown}); use another "
                f"workdir, or --config={self.config} to go on with that run"
            )

    def inherited(self, config: Config) -> Config:
        """Returns the config with what the run here took from its pretrained weights.

        The weights are then not needed to go on: their file may be gone.
        """
        if not self.config.exists():
            return config
        old, new = flatten(self.read_config()), flatten(config)
        if any(old.get(key) != new[key] for key in _WEIGHTS) or not any(map(new.get, _WEIGHTS)):
            return config
        taken = {
            key: as_tuple(old[key])
            for key in FROM_WEIGHTS
            if new[key] is None and old.get(key) is not None
        }
        return changed(config, taken)

    def write_config(self, config: Config) -> None:
        """Writes `config.json`, whole or not at all."""
        partial = self.config.with_suffix(".json.part")
        partial.write_text(to_json(config))
        partial.replace(self.config)

    def read_config(self) -> dict[str, Any]:
        """Returns what `config.json` holds."""
        try:
            return json.loads(self.config.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.config}: not readable as JSON: {error}") from error


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
