"""Commands about models and weights: models, inspect, convert."""

import argparse
import re
from typing import Any

from vit_jax.commands.command import Command
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a model to show; a PATTERN of published weights"
    )
    parser.add_argument("--pretrained", action="store_true", help="list the published weights")
    parser.add_argument("--json", action="store_true", help="with --pretrained: all that is known")
    parser.add_argument(
        "--size", type=_image_size, default=(224, 224), help="pixels: 384, or 256x512 (rows first)"
    )
    parser.add_argument("--classes", type=int, default=1000, help="classes (default 1000)")


def _models(options: argparse.Namespace, _: list[str]) -> int:
    if options.json and not options.pretrained:
        raise ConfigError("--json: goes with --pretrained")
    if options.classes < 0:
        raise ConfigError(f"--classes={options.classes}: must be at least 0")
    from vit_jax.inspecting import listing

    if options.pretrained:
        listing.print_pretrained(options.name, as_json=options.json)
    elif options.name is None:
        listing.print_names()
    else:
        listing.print_model(options.name, options.size, options.classes)
    return 0


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_describing(parser)


def _inspect(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.inspecting.inspection_table import print_inspection

    print_inspection(options.source, as_json=options.json, **described(options, options.source))
    return 0


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="folder, for weights, configs and model card; or a file (.npz, .safetensors)",
    )
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="official, timm, transformers or big_vision"
    )
    parser.add_argument("--force", action="store_true", help="write over a target that exists")
    parser.add_argument("--licence", metavar="ID", help="for the model card, such as apache-2.0")
    parser.add_argument(
        "--push-to-hub", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    add_describing(parser)


def _convert(options: argparse.Namespace, _: list[str]) -> int:
    import dataclasses

    from vit_jax.checkpoints.kinds import check_format

    check_format(options.to)
    _check_push(options)
    from vit_jax import release
    from vit_jax.card import check_licence
    from vit_jax.origin import describe

    release.check_target(options.target, options.to, overwrite=options.force)
    check_licence(options.licence)
    origin, facts = release.open_with_facts(options.source, described(options, options.source))
    print(f"read   {describe(origin)}")
    facts = dataclasses.replace(
        facts, licence=options.licence or facts.licence, repository=options.push_to_hub
    )
    file = release.write_converted(origin, options.target, options.to, facts)
    print(f"wrote  {file}: {options.to}, {file.stat().st_size / 1e6:,.1f} MB")
    for line in release.opened_by(file, options.target, options.to):
        print(f"open   {line}")
    if options.push_to_hub:
        url = release.push_to_hub(options.target, options.push_to_hub, private=options.private)
        print(f"pushed {url}")
        print(f"open   vit_jax.load_pretrained('hf://{options.push_to_hub}')")
    return 0


def _check_push(options: argparse.Namespace) -> None:
    """Refuses what could not be uploaded, before anything is written."""
    if options.push_to_hub is None:
        if options.private:
            raise ConfigError("--private: goes with --push-to-hub")
        return
    if options.target.endswith((".npz", ".safetensors")):
        raise ConfigError(
            f"--push-to-hub={options.push_to_hub}: uploads a folder, with configs and card; name "
            "one in the place of " + options.target
        )
    from vit_jax.checkpoints.hub import check_push

    check_push(options.push_to_hub)


SOURCE = "file or folder of weights, workdir of a run, URL, or name of the catalogue"


def add_describing(parser: argparse.ArgumentParser) -> None:
    """Declares the flags for what a file of weights does not say of itself."""
    parser.add_argument("--model", metavar="NAME", help="architecture, where a file does not tell")
    parser.add_argument("--heads", type=int, help="attention heads, where a file does not tell")
    parser.add_argument(
        "--activation", help="gelu_tanh (of the official weights) or gelu_erf, where not told"
    )
    parser.add_argument(
        "--grid", type=_image_size, metavar="ROWSxCOLUMNS", help="patches, if they make no square"
    )


def described(options: argparse.Namespace, source: str) -> dict[str, Any]:
    """Returns what these flags say of a source, as fields of `create_model`."""
    from vit_jax.workdir import is_run

    encoder = {"num_heads": options.heads, "activation": options.activation}
    fields = {
        "model_name": options.model,
        "transformer": {name: value for name, value in encoder.items() if value is not None},
        "positions": {"grid": options.grid} if options.grid else {},
    }
    said = {name: value for name, value in fields.items() if value}
    if said and is_run(source):
        raise ConfigError(
            f"{source}: a run says all of itself; leave out --model, --heads, --activation, --grid"
        )
    return said


def _image_size(text: str) -> tuple[int, int]:
    """Reads "384" or "256x512"."""
    if not (match := re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)):
        raise argparse.ArgumentTypeError(f"{text!r} must be pixels, such as 384 or 256x512")
    return int(match[1]), int(match[2] or match[1])


MODELS = Command(
    "models",
    "list models, recipes and published weights; describe one",
    "vit_jax models ViT-B_16 --size=384",
    _models_arguments,
    _models,
)

INSPECT = Command(
    "inspect",
    "show what weights hold, layer by layer, and all that is strange",
    "vit_jax inspect B_16.npz",
    _inspect_arguments,
    _inspect,
)

CONVERT = Command(
    "convert",
    "write weights in the format of another library, and share them",
    "vit_jax convert runs/photos photos_timm --to=timm",
    _convert_arguments,
    _convert,
)
