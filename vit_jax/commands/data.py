"""Commands about data: pack."""

import argparse
import os
import pathlib
import shlex

from vit_jax.commands.command import Command
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="what config.dataset takes")
    parser.add_argument("target", metavar="TARGET", help="image folder to write")
    parser.add_argument("--size", type=int, default=256, help="shorter side, px (default 256)")
    parser.add_argument("--quality", type=int, default=85, help="of the JPEG files (default 85)")
    parser.add_argument(
        "--format",
        choices=("jpeg", "ppm"),
        default="jpeg",
        help="ppm: ten times the space, three times the speed (default jpeg)",
    )
    parser.add_argument("--splits", default="train,test", help="default: train,test")


def _pack(options: argparse.Namespace, _: list[str]) -> int:
    if options.size < 1:
        raise ConfigError(f"--size={options.size}: must be at least 1")
    if not 1 <= options.quality <= 95:
        raise ConfigError(f"--quality={options.quality}: must be from 1 to 95")
    _check_apart(pathlib.Path(options.source), pathlib.Path(options.target))
    from vit_jax.data.datasets import open_dataset
    from vit_jax.data.packing import pack

    names = [name for name in options.splits.split(",") if name]
    sources = {name: open_dataset(options.source, name) for name in names}
    for name, source in sources.items():
        folder = pathlib.Path(options.target, name).expanduser()
        threads = os.cpu_count() or 1
        done = pack(source, folder, options.size, options.quality, threads, options.format)
        print(f"{folder}  {done.images:,} images, {done.bytes / done.images:,.0f} bytes each")
    recipe = shlex.quote(f"folder:{options.target}")
    print(f"train       vit_jax train --config={recipe} --workdir=runs/packed")
    return 0


def _check_apart(source: pathlib.Path, target: pathlib.Path) -> None:
    """Raises ConfigError if the copies would be more images of their own source."""
    here, there = source.expanduser().resolve(), target.expanduser().resolve()
    if here.is_dir() and here in (there, *there.parents):
        raise ConfigError(f"{target}: lies in the source, {source}; name a folder outside of it")


PACK = Command(
    "pack",
    "write a dataset as small files, which load faster",
    "vit_jax pack photos photos256 --size=256",
    _pack_arguments,
    _pack,
)
