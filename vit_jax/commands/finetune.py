"""The command finetune: from a folder of photographs to a model, without a setting."""

import argparse
import math
import shlex
from typing import Any

from vit_jax.commands.command import Command
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", help="images: CLASS/*.jpg, or {train,test}/CLASS/*.jpg"
    )
    parser.add_argument(
        "--model",
        metavar="SOURCE",
        help="weights to start from: a name, file, folder, run or URL (default: vit_s16; on a CPU "
        "vit_ti16)",
    )
    parser.add_argument(
        "--workdir", help="folder of the run and its recipe (default: runs/NAME_OF_FOLDER)"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="to train and test in")
    parser.add_argument(
        "--plan", action="store_true", help="print and write the recipe; do not train"
    )
    parser.usage = (
        "vit_jax finetune FOLDER [--model=SOURCE] [--workdir=WORKDIR]\n"
        "                        [--minutes=N] [--plan] [--config.KEY=VALUE …]"
    )


def _finetune(options: argparse.Namespace, overrides: list[str]) -> int:
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        raise ConfigError(f"--minutes={options.minutes:g}: must be a positive number")
    from vit_jax.choosing.data import read_facts
    from vit_jax.choosing.recipe_file import NAME
    from vit_jax.choosing.reuse import default_workdir, recipe_in_use
    from vit_jax.workdir import Workdir

    facts = read_facts(options.folder)
    place = Workdir(options.workdir or default_workdir(options.folder))
    replan = options.plan or options.minutes is not None
    config = recipe_in_use(place, facts.folder, options.model, overrides, replan=replan)
    from vit_jax.runtime import compile_cache

    compile_cache.enable()
    recipe = f"{place.given}/{NAME}"
    if config is not None:
        _use(config, place, recipe)
    else:
        config = _chosen(options, overrides, facts, place)
        print(f"recipe      {recipe}")
    if options.plan:
        folder, workdir = map(shlex.quote, (options.folder, place.given))
        print(f"train       vit_jax finetune {folder} --workdir={workdir}")
        return 0
    from vit_jax.runtime.ending import alone_on_failure
    from vit_jax.train import train

    with alone_on_failure():
        return train(config, place.given).exit_code


def _use(config: Any, place: Any, recipe: str) -> None:
    """Says that a recipe that lies there decides, --minutes and all; its first run must fit."""
    print(f"recipe      {recipe}: decides, as it lies there")
    if not place.config.exists():
        from vit_jax.choosing.choose import check_fits

        check_fits(config)


def _chosen(options: argparse.Namespace, overrides: list[str], facts: Any, place: Any) -> Any:
    """Chooses the settings, shows them, and returns them as the recipe says them."""
    from vit_jax.choosing.choose import choose
    from vit_jax.choosing.recipe_file import write_recipe
    from vit_jax.choosing.table import print_chosen
    from vit_jax.recipes import load_config

    chosen = choose(facts, options.model, options.minutes, overrides)
    print_chosen(chosen)
    return load_config(write_recipe(place, chosen.choices, chosen.found))


FINETUNE = Command(
    "finetune",
    "make a model of a folder of photographs; all settings are chosen",
    "vit_jax finetune photos --minutes=30",
    _arguments,
    _finetune,
)
