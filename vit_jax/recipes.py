"""Recipes and flags in, checked settings out.

A recipe is a Python file with `get_config(arg)` that returns an `ml_collections.ConfigDict` (or a
dict) of the settings it changes. It is laid over the defaults of `vit_jax.config`, and the
`--config.key=value` flags over both. The `config.json` of a run is a recipe too.
"""

import importlib.machinery
import importlib.util
import inspect
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vit_jax.config import (
    Config,
    as_tuple,
    check_known,
    default_config,
    flatten,
    validate,
)
from vit_jax.errors import ConfigError, VitJaxError, nearest
from vit_jax.settings import KEYS, RETIRED
from vit_jax.settings.model import ARCHITECTURE

_TYPES = {
    int: "a whole number, such as 8",
    float: "a number, such as 0.1",
    bool: "true or false",
}
_EITHER = ("total_steps", "epochs")


def load_config(spec: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a recipe, applies `--config.key=value` overrides, and checks the result.

    Args:
      spec: `configs/digits.py`, `configs/folder.py:photos` (the text after the colon goes to
        `get_config`), the plain name of a shipped recipe (`digits`), or a run's `config.json`.
      overrides: flags such as `--config.base_lr=0.01`.

    Returns:
      All settings, locked against new names.

    Raises:
      ConfigError: the file, a key, a type or a value is wrong; one line with the remedy.
    """
    config = merge(default_config(), _read(str(spec)), origin=str(spec))
    apply_flags(config, overrides)
    validate(config)
    return config.lock()


def merge(config: Config, settings: Mapping[str, Any] | ConfigDict, origin: str) -> Config:
    """Lays settings over a config; a name it does not have, or another type, is a ConfigError."""
    for path, value in flatten(settings).items():
        _assign(config, path, value, origin)
    return config


def shipped() -> dict[str, Path]:
    """Returns {name: file} of the shipped recipes, from the installed wheel or the checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.py"))}
    return {}


def _read(spec: str) -> Mapping[str, Any] | ConfigDict:
    """Returns the settings that a recipe or a config.json holds."""
    match = re.fullmatch(r"(?P<file>[\w-]+|.+?\.(?:py|json))(?::(?P<arg>.*))?", spec)
    if match is None:
        raise ConfigError(
            f"--config={spec}: must be a .py recipe, a config.json or a recipe's name"
        )
    file = _find(match["file"])
    if file.suffix == ".json":
        return _read_json(file)
    try:
        return _call_recipe(_import(file), match["arg"])
    except VitJaxError:
        raise
    except Exception as error:  # a recipe is the user's own code: anything may come out of it
        raise ConfigError(f"--config={spec}: {type(error).__name__}: {error}") from error


def _call_recipe(recipe: ModuleType, arg: str | None) -> Mapping[str, Any] | ConfigDict:
    given = () if arg is None else (arg,)
    try:
        inspect.signature(recipe.get_config).bind(*given)
    except TypeError as error:
        rule = "nothing after a colon" if given else "a word, as in RECIPE:WORD"
        raise ConfigError(f"--config={recipe.__file__}: get_config takes {rule}") from error
    settings = recipe.get_config(*given)
    if not isinstance(settings, (Mapping, ConfigDict)):
        raise ConfigError(
            f"--config={recipe.__file__}: get_config must return a ConfigDict or a dict, "
            f"not {type(settings).__name__}"
        )
    return settings


class _FromText(importlib.machinery.SourceFileLoader):
    """Runs a recipe from its text: a compiled copy beside it might be that of an older one."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(file: Path) -> ModuleType:
    name = f"vit_jax_recipe_{file.stem}"
    spec = importlib.util.spec_from_loader(name, _FromText(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _find(name: str) -> Path:
    """Returns the file: as given, or the shipped recipe of that name."""
    file, known = Path(name), shipped()
    if file.suffix and file.is_file():
        return file
    if file.suffix in ("", ".py") and str(file.parent) in (".", "configs") and file.stem in known:
        return known[file.stem]
    raise ConfigError(
        f"--config={name}: no such file{nearest(file.stem, known)}; "
        f"shipped recipes: {', '.join(known) or 'none'}"
    )


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"--config={file}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config={file}: must hold a JSON object of settings")
    return content


def _assign(config: Config, path: str, value: Any, origin: str) -> None:
    """Sets one setting from a recipe; a wrong name or type is an error that says which."""
    if _is_retired(path):
        return
    check_known(path, f"{origin}: config.{path}")
    *parents, name = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    try:
        node[name] = as_tuple(value)
    except (TypeError, ValueError) as error:
        wanted = KEYS[path].kind or type(KEYS[path].default)
        raise ConfigError(
            f"{origin}: config.{path}={value!r} must be of type {wanted.__name__}"
        ) from error


def _is_retired(path: str) -> bool:
    """Whether this is an official key that nothing is left to do for; says why."""
    if path in RETIRED:
        logging.getLogger("vit_jax").info("config.%s is not needed: %s", path, RETIRED[path])
    return path in RETIRED


def set_by_flags(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns {"pp.crop": 384, …} of what `--config.key=value` flags say.

    Raises:
      ConfigError: a flag with a wrong name, or a value of another type.
    """
    config = default_config()
    apply_flags(config, overrides)
    values = flatten(config)
    return {path: values[path] for path in _by_setting(overrides)}


def apply_flags(config: Config, overrides: Sequence[str]) -> None:
    """Lets ml_collections parse each `--config.key=value` by the type of its setting."""
    flags_of = _by_setting(overrides)
    for either, other in (_EITHER, _EITHER[::-1]):
        if either in flags_of and other not in flags_of:
            config[other] = None  # the flag decides, whichever of the two the recipe gave
    name = flags_of.get("model.model_name", "=None")
    if not name.endswith("=None") and config.model.model_name is None:
        _forget_architecture(config)
    for path in [path for path, flag in flags_of.items() if flag.endswith("=None")]:
        if KEYS[path].kind:  # absl's parsers know no None
            config.update_from_flattened_dict({path: None})
            del flags_of[path]
    values, command = flags.FlagValues(), ["vit_jax", *flags_of.values()]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=command)
    try:
        values(command)
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(_in_words(" ".join(str(error).split()))) from error


def _in_words(said: str) -> str:
    """Returns what absl says of a flag whose value has another type, with the type in words."""
    match = re.match(r"flag --config\.(?P<path>[\w.]+)=(?P<value>.*?): ", said)
    if match is None or (key := KEYS.get(match["path"])) is None:
        return said
    wanted = _TYPES.get(key.kind or type(key.default))
    return f"--config.{match['path']}={match['value']}: must be {wanted}" if wanted else said


def _forget_architecture(config: Config) -> None:
    """Takes out the model without a name that a recipe describes, for a flag that names another."""
    config.update_from_flattened_dict({path: KEYS[path].default for path in ARCHITECTURE})


def _by_setting(overrides: Sequence[str]) -> dict[str, str]:
    """Returns {setting: flag} without retired ones; of two for one setting the last counts."""
    found = {}
    for flag in overrides:
        match = re.fullmatch(r"--(?:no)?config\.([\w.]+)(?:=.*)?", flag, flags=re.DOTALL)
        if match is None:
            shown = " ".join(flag.split())
            raise ConfigError(f"{shown}: not understood; settings read --config.KEY=VALUE")
        if not _is_retired(match[1]):
            check_known(match[1], flag)
            found[match[1]] = flag
    return found
