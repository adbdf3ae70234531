"""Commands that draw: visualize."""

import argparse

from vit_jax.commands.command import Command
from vit_jax.commands.weights import SOURCE, add_describing, described

# Every other import waits for its command: help and usage errors must be instant.


def _visualize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="files to show attention on")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of pictures and page")
    add_describing(parser)


def _visualize(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax import compile_cache
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


VISUALIZE = Command(
    "visualize",
    "draw what a model sees: attention, position embeddings, first-layer filters",
    "vit_jax visualize B_16.npz holiday.jpg --output=pictures",
    _visualize_arguments,
    _visualize,
)
