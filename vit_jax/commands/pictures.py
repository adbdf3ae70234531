"""Commands that draw: visualize, report."""

import argparse

from vit_jax.commands.command import Command
from vit_jax.commands.weights import SOURCE, add_describing, described
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _visualize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="files to show attention on; default: a few test images of a run",
    )
    parser.add_argument(
        "--output", default="pictures", metavar="FOLDER", help="default: pictures, with a page"
    )
    add_describing(parser)


def _visualize(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.runtime import compile_cache
    from vit_jax.visualize import visualize

    compile_cache.enable()
    fields = described(options, options.source)
    album = visualize(options.source, options.images, options.output, **fields)
    for picture in album.pictures:
        print(f"drawn       {options.output}/{picture.file}")
    for heading, reason in album.missing:
        print(f"not drawn   {heading}: {reason}")
    print(f"page        {options.output}/index.html")
    return 0


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="workdir of a run")
    parser.add_argument(
        "--output", default="comparison.png", metavar="FILE", help="default: comparison.png"
    )


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from pathlib import Path

    picture = Path(options.output).expanduser()
    if picture.suffix != ".png":
        raise ConfigError(f"--output={options.output}: must end in .png")
    from vit_jax.pictures.comparing import draw_comparison
    from vit_jax.records.comparison import compare, comparison_table, settings_table
    from vit_jax.tables import console

    groups = compare(options.workdirs)
    console().print(comparison_table(groups))
    if (all_settings := settings_table(groups)) is not None:
        console().print(all_settings)
    draw_comparison(groups, picture)
    print(f"drawn       {options.output}")
    return 0


REPORT = Command(
    "report",
    "compare runs: a table and curves, with the spread over seeds",
    "vit_jax report runs/a_seed0 runs/a_seed1 runs/b_seed0 --output=comparison.png",
    _report_arguments,
    _report,
)

VISUALIZE = Command(
    "visualize",
    "draw attention, position embeddings and filters of a model",
    "vit_jax visualize B_16.npz holiday.jpg",
    _visualize_arguments,
    _visualize,
)
