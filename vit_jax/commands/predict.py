"""The command predict."""

import argparse
import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vit_jax.commands.command import Command
from vit_jax.commands.weights import SOURCE, add_describing, described
from vit_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from vit_jax.predict import Prediction

# Every other import waits for its command: help and usage errors must be instant.


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, metavar="SOURCE", help=SOURCE)
    parser.add_argument("--top", type=int, default=5, help="classes to show (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--csv", action="store_true", help="path, rank, index, class, probability")
    parser.add_argument(
        "--features", metavar="FILE.npz", help="also write the vectors that the head reads"
    )
    parser.add_argument(
        "--attention", metavar="FOLDER", help="also draw what was attended to in each image"
    )
    parser.add_argument(
        "--batch", type=int, help="images at once (default: for each device 32, 128 off the CPU)"
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help='file, folder, "pattern*.jpg", URL, or - for standard input, one a line',
    )
    add_describing(parser)


def _predict(options: argparse.Namespace, _: list[str]) -> int:
    _check(options)
    from vit_jax.predict import class_names, open_classifier, predictions
    from vit_jax.prediction.answers import UnreadableError, answer
    from vit_jax.prediction.features import Features
    from vit_jax.prediction.inputs import expand
    from vit_jax.prediction.overlays import Overlays
    from vit_jax.runtime import compile_cache

    names = expand(options.images, sys.stdin or ())
    compile_cache.enable()
    trained: Any = open_classifier(options.checkpoint, **described(options, options.checkpoint))
    features = Features(options.features) if options.features else None
    overlays = Overlays(options.attention, trained) if options.attention else None
    alone = features is not None and not trained.model.num_classes  # a backbone names no classes
    classes, show = [] if alone else class_names(trained), _shown(options)
    try:
        with _progress(len(names)) as advance:
            for found in answer(trained, names, features=bool(features), batch=options.batch):
                for one in [] if alone else predictions(found, classes, options.top):
                    show(one)
                for kept in filter(None, (features, overlays)):
                    kept.add(found)
                advance(len(found.names))
    except UnreadableError as error:
        _tell(features, overlays)
        if len(error.reasons) > 1:
            for reason in error.reasons:
                print(f"vit_jax: unreadable: {reason}", file=sys.stderr)
            raise DataError(
                f"{len(error.reasons):,} of {len(names):,} images cannot be read; see above"
            ) from error
        raise
    _tell(features, overlays)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise ConfigError(f"--top={options.top}: must be at least 1")
    if options.batch is not None and options.batch < 1:
        raise ConfigError(f"--batch={options.batch}: must be at least 1")
    if options.json and options.csv:
        raise ConfigError("--json and --csv: one of them at a time")
    if options.features and not options.features.endswith(".npz"):
        raise ConfigError(f"--features={options.features}: must end in .npz")
    if options.features and os.path.lexists(os.path.expanduser(options.features)):
        raise ConfigError(f"--features={options.features}: is there already; name another file")


def _shown(options: argparse.Namespace) -> Callable[["Prediction"], None]:
    """Returns what prints a prediction."""
    if options.json:
        return lambda one: print(
            json.dumps({"path": one.path, "top": _pairs(one), "indices": one.indices})
        )
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("path", "rank", "index", "class", "probability"))
        return lambda one: writer.writerows(
            (one.path, rank, index, name, f"{p:.6g}")
            for rank, (index, (name, p)) in enumerate(zip(one.indices, _pairs(one), strict=True), 1)
        )
    return lambda one: print(
        one.path, *(f"  {100 * p:6.2f} %  {name}" for name, p in _pairs(one)), sep="\n"
    )


def _pairs(one: "Prediction") -> list[tuple[str, float]]:
    return list(zip(one.classes, one.probabilities, strict=True))


def _tell(features: Any, overlays: Any) -> None:
    """Says on standard error what was written: standard output is for answers."""
    if features is not None and (shape := features.write()):
        print(f"features    {features.path}: {list(shape)}, float32", file=sys.stderr)
    if overlays is not None and overlays.count:
        print(f"attention   {overlays.folder}: {overlays.count:,} pictures", file=sys.stderr)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Draws a bar where people look at the errors and not at the answers, which show it as well."""
    if not sys.stderr.isatty() or sys.stdout.isatty() or total < 2:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("images", total=total)
        yield lambda done: progress.update(task, advance=done)


PREDICT = Command(
    "predict",
    "name the most probable classes of images",
    "vit_jax predict --checkpoint=deit_tiny_patch16_224.fb_in1k photo.jpg",
    _arguments,
    _predict,
)
