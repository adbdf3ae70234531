"""The command demo."""

import argparse

from vit_jax.commands.command import Command
from vit_jax.commands.weights import SOURCE, add_describing, described
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.

_PORT = 7860


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE)
    parser.add_argument(
        "--port",
        type=int,
        default=_PORT,
        help=f"of the page, on this machine alone (default {_PORT}; 0 for any that is free)",
    )
    parser.add_argument("--top", type=int, default=5, help="classes to show (default 5)")
    add_describing(parser)


def _demo(options: argparse.Namespace, _: list[str]) -> int:
    if options.top < 1:
        raise ConfigError(f"--top={options.top}: must be at least 1")
    from vit_jax.extras import check_installed

    check_installed(("starlette", "uvicorn"), "demo", "vit_jax demo")
    from vit_jax.demo.serving import address, bind, server

    with bind(options.port) as listening:  # before the weights, which take longer
        from vit_jax.demo.site import make_site
        from vit_jax.demo.viewing import Viewer
        from vit_jax.predict import open_classifier
        from vit_jax.runtime import compile_cache

        compile_cache.enable()
        trained = open_classifier(options.source, **described(options, options.source))
        site = make_site(Viewer(trained, options.source, options.top))
        print(f"page        {address(listening)}    (Ctrl-C ends it)", flush=True)
        server(site).run(sockets=[listening])
    return 0


DEMO = Command(
    "demo",
    "show classes and attention of photographs, on a local page",
    "vit_jax demo deit_tiny_patch16_224.fb_in1k",
    _arguments,
    _demo,
)
