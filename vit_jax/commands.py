"""The commands of `vit_jax`: for each its purpose, its arguments and what it runs."""

import argparse
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


class Command(NamedTuple):
    """One command.

    Attributes:
      name, purpose, example: for the reader.
      add_arguments: declares what the command takes.
      run: takes the parsed arguments and the `--config.key=value` flags; returns the exit code.
    """

    name: str
    purpose: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, list[str]], int]


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
    )
    parser.add_argument("--workdir", required=True, help="folder for checkpoints and metrics")
    parser.add_argument(
        "--distributed", action="store_true", help="one of several processes: ask the cluster"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes there are")
    parser.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    explicit = (options.coordinator, options.processes, options.process)
    if options.distributed or explicit != (None, None, None):
        from vit_jax import processes

        processes.join(*explicit)
    from vit_jax.train import train

    return train(config, options.workdir).exit_code


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="workdir of a run")


def _evaluate(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.evaluate import evaluate_run
    from vit_jax.loggers import score_line
    from vit_jax.pretrained import load_run

    trained = load_run(options.workdir)
    scores, count = evaluate_run(trained)
    print(score_line(scores, count))
    print(f"checkpoint  {trained.workdir.given}/checkpoints/{trained.step}")
    return 0


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="workdir of a run")
    parser.add_argument("--top", type=int, default=5, help="classes to show (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")


def _predict(options: argparse.Namespace, _: list[str]) -> int:
    if options.top < 1:
        raise ConfigError(f"--top={options.top}: must be at least 1")
    from vit_jax.predict import predict
    from vit_jax.pretrained import load_run

    for found in predict(load_run(options.checkpoint), options.images, options.top):
        pairs = zip(found.classes, found.probabilities, strict=True)
        if options.json:
            print(json.dumps({"path": found.path, "top": [list(pair) for pair in pairs]}))
        else:
            print(found.path, *(f"  {100 * p:6.2f} %  {name}" for name, p in pairs), sep="\n")
    return 0


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


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a model to show")
    parser.add_argument(
        "--size", type=_image_size, default=(224, 224), help="pixels: 384, or 256x512 (rows first)"
    )
    parser.add_argument("--classes", type=int, default=1000, help="classes (default 1000)")


def _models(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax import listing

    if options.name is None:
        listing.print_names()
    else:
        listing.print_model(options.name, options.size, options.classes)
    return 0


def _image_size(text: str) -> tuple[int, int]:
    """Reads "384" or "256x512"."""
    if not (match := re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)):
        raise argparse.ArgumentTypeError(f"{text!r} must be pixels, such as 384 or 256x512")
    return int(match[1]), int(match[2] or match[1])


COMMANDS = (
    Command(
        "train",
        "train a model, or go on with a run: the same command again resumes",
        "vit_jax train --config=digits --workdir=runs/digits --config.base_lr=0.001",
        _train_arguments,
        _train,
    ),
    Command(
        "evaluate",
        "score a trained model on its test split",
        "vit_jax evaluate --workdir=runs/digits",
        _evaluate_arguments,
        _evaluate,
    ),
    Command(
        "predict",
        "name the most probable classes of images",
        "vit_jax predict --checkpoint=runs/digits photo.jpg",
        _predict_arguments,
        _predict,
    ),
    Command(
        "benchmark",
        "measure how fast this machine does what a config asks for",
        "vit_jax benchmark input --config=folder:photos",
        _benchmark_arguments,
        _benchmark,
    ),
    Command(
        "pack",
        "write a dataset as small JPEG files, which load about twice as fast",
        "vit_jax pack photos photos256 --size=256",
        _pack_arguments,
        _pack,
    ),
    Command(
        "models",
        "list the models and recipes, or show what one model is made of",
        "vit_jax models ViT-B_16 --size=384",
        _models_arguments,
        _models,
    ),
)
