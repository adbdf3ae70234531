"""The command export."""

import argparse
from typing import TYPE_CHECKING

from vit_jax.commands.command import Command
from vit_jax.commands.weights import SOURCE, add_describing, described
from vit_jax.errors import ConfigError

if TYPE_CHECKING:
    from vit_jax.export.exporting import Exported

# Every other import waits for its command: help and usage errors must be instant.


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="stablehlo, onnx, savedmodel or safetensors"
    )
    parser.add_argument("--output", metavar="FOLDER", help="default: ./NAME_FORMAT")
    parser.add_argument(
        "--preprocess",
        choices=("inside", "beside"),
        help="inside (default): takes uint8 pixels of the model's size, and normalises them; "
        "beside: takes them normalised, as export.json says",
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    add_describing(parser)


def _export(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.export.kinds import find_kind

    kind = find_kind(options.to)
    if options.preprocess and not kind.is_program:
        raise ConfigError(
            f"--preprocess={options.preprocess}: {kind.name} holds weights, which compute nothing; "
            "leave it out"
        )
    kind.check_installed()
    from vit_jax.export.exporting import check_target, default_target, export
    from vit_jax.export.program import make_program
    from vit_jax.predict import open_classifier

    target = options.output or default_target(options.source, kind.name)
    check_target(target, overwrite=options.force)  # before a minute of work, not after
    trained = open_classifier(options.source, **described(options, options.source))
    program = make_program(trained, normalizes=options.preprocess != "beside")
    _print(export(program, target, kind.name, overwrite=options.force))
    return 0


def _print(made: "Exported") -> None:
    kind, main = made.kind, made.folder / made.kind.main
    print(f"wrote  {main}: {kind.name}, {made.bytes / 1e6:,.1f} MB")
    print(
        f"check  opened by {kind.runner}: logits differ by {made.difference:.1e} of the largest at "
        f"batch 1 and 3 ({kind.tolerance:.0e} is allowed)"
    )
    here = f"{made.model_milliseconds:,.1f} ms"
    if made.milliseconds is None:
        print(f"speed  the model takes {here} for one image on this CPU")
    else:
        print(f"speed  {made.milliseconds:,.1f} ms for one image on this CPU; the model {here}")
    opened = kind.opened.replace("MAIN", str(main)).replace("FOLDER", str(made.folder))
    print(f"open   {opened}")


EXPORT = Command(
    "export",
    "write a model for other programs: ONNX, StableHLO, SavedModel",
    "vit_jax export runs/photos --to=onnx",
    _arguments,
    _export,
)
