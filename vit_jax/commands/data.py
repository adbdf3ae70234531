"""Commands about data: pack, benchmark."""

import argparse
import os
import pathlib

from vit_jax.commands.command import Command
from vit_jax.commands.plan import add_plan
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    purpose = "the input pipeline: images a second, bytes moved, and how long training waits for it"
    kind = kinds.add_parser("input", help=purpose, description=purpose, allow_abbrev=False)
    kind.add_argument(
        "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
    )
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind.add_argument("--seconds", type=float, default=5.0, help="for each measurement (default 5)")
    kind.set_defaults(measure=_benchmark_input)
    add_plan(kinds)


def _benchmark(options: argparse.Namespace, overrides: list[str]) -> int:
    return options.measure(options, overrides)


def _benchmark_input(options: argparse.Namespace, overrides: list[str]) -> int:
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    from vit_jax.benchmark import benchmark_input, print_input

    speed = benchmark_input(config, options.seconds)
    if options.json:
        print(speed.to_json())
    else:
        print_input(speed)
    return 0


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="what config.dataset takes")
    parser.add_argument("target", metavar="TARGET", help="image folder to write")
    parser.add_argument("--size", type=int, default=256, help="shorter side, px (default 256)")
    parser.add_argument("--quality", type=int, default=85, help="of the JPEG files (default 85)")
    parser.add_argument("--splits", default="train,test", help="default: train,test")


def _pack(options: argparse.Namespace, _: list[str]) -> int:
    if options.size < 1:
        raise ConfigError(f"--size={options.size}: must be at least 1")
    if not 1 <= options.quality <= 95:
        raise ConfigError(f"--quality={options.quality}: must be from 1 to 95")
    from vit_jax.data.datasets import open_dataset
    from vit_jax.data.packing import pack

    names = [name for name in options.splits.split(",") if name]
    sources = {name: open_dataset(options.source, name) for name in names}
    for name, source in sources.items():
        folder = pathlib.Path(options.target, name)
        done = pack(source, folder, options.size, options.quality, os.cpu_count() or 1)
        print(f"{folder}  {done.images:,} images, {done.bytes / done.images:,.0f} bytes each")
    print(f"train       vit_jax train --config=folder:{options.target} --workdir=runs/packed")
    return 0


PACK = Command(
    "pack",
    "write a dataset as small JPEG files, which load about twice as fast",
    "vit_jax pack photos photos256 --size=256",
    _pack_arguments,
    _pack,
)

BENCHMARK = Command(
    "benchmark",
    "measure how fast this machine does what a config asks for",
    "vit_jax benchmark input --config=folder:photos",
    _benchmark_arguments,
    _benchmark,
)
