"""The recipe that lies in a workdir already: chosen anew, used as it is, or refused.

Nothing is ever lost: a recipe is written over only as long as no run has begun with it and nobody
has edited it, and then only if something is asked for. Else it decides, and flags that say
otherwise are refused.
"""

from collections.abc import Sequence
from pathlib import Path

from vit_jax.choosing.recipe_file import NAME, is_as_chosen
from vit_jax.config import Config, differences
from vit_jax.errors import ConfigError
from vit_jax.recipes import load_config
from vit_jax.settings import HARMLESS
from vit_jax.workdir import Workdir, shown


def default_workdir(folder: str) -> str:
    """Returns runs/NAME for a folder of images of that name."""
    return f"runs/{Path(folder).expanduser().absolute().name or 'images'}"


def recipe_in_use(
    place: Workdir,
    folder: str,
    model: str | None,
    overrides: Sequence[str],
    *,
    replan: bool = False,
) -> Config | None:
    """Returns the settings of the recipe in a workdir, if it decides; None to choose anew.

    Args:
      place: the workdir.
      folder: of the images.
      model: weights that are asked for; None for whatever the recipe names.
      overrides: `--config.key=value` flags.
      replan: whether a plan or a time is asked for.

    Raises:
      ConfigError: the workdir holds a run of something else, or the recipe says other than the
        run that began with it, than the folder or than the flags.
    """
    recipe, begun = place.root / NAME, place.config.exists()
    if place.root.exists() and not place.root.is_dir():
        raise ConfigError(f"--workdir={place.given}: is a file; name a folder")
    if not recipe.exists():
        if begun:
            raise ConfigError(
                f"--workdir={place.given}: holds a run that finetune did not begin; name another "
                f"--workdir, or go on with it: vit_jax train --config={place.given}/config.json "
                f"--workdir={place.given}"
            )
        return None
    asks = replan or model is not None or bool(overrides)
    if asks and not begun and is_as_chosen(recipe.read_text("utf-8", "replace")):
        return None
    config = load_config(recipe)
    _check_flags(place, config, folder, model)
    asked = load_config(recipe, overrides)
    if begun:
        _check_run(place, asked)
    elif found := differences(config, asked):
        raise ConfigError(
            f"{place.given}/{NAME}: was edited, and the flags say otherwise ({shown(found)}); edit "
            "it there, or leave the flags out"
        )
    return asked


def _check_flags(place: Workdir, config: Config, folder: str, model: str | None) -> None:
    """Raises ConfigError if the recipe is of another folder or other weights."""
    for what, said, now in (
        (folder, config.dataset, folder),
        (f"--model={model}", config.model_or_filename or "", model),
    ):
        if now is not None and said != now and not _same_path(said, now):
            raise ConfigError(
                f"{what}: {place.given}/{NAME} is for {said}; name another --workdir, or move "
                f"{NAME} away to choose anew"
            )


def _same_path(one: str, other: str) -> bool:
    a, b = (Path(text).expanduser() for text in (one, other))
    return a.exists() and b.exists() and a.samefile(b)


def _check_run(place: Workdir, config: Config) -> None:
    """Raises ConfigError if the run in the workdir began with settings that give other numbers."""
    found = differences(place.settings(), place.inherited(config))
    refused = {key: values for key, values in found.items() if key not in HARMLESS}
    if refused:
        again = f"vit_jax train --config={place.given}/{NAME} --workdir={place.given}_2"
        raise ConfigError(
            f"--workdir={place.given}: holds a run that began with other settings than {NAME} and "
            f"the flags have now ({shown(refused)}); take the change back to go on with it, or "
            f"begin another: {again}"
        )
