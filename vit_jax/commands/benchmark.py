"""The command benchmark, which has a kind of its own for each thing it measures or foretells."""

import argparse
import time
from collections.abc import Callable
from typing import Any

from vit_jax.commands.command import Command

# Every other import waits for its command: help and usage errors must be instant.


def _arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, (purpose, measure) in _KINDS.items():
        more = " --devices=64" if name == "plan" else ""
        kind = kinds.add_parser(
            name,
            help=purpose,
            description=purpose,
            epilog=f"example: vit_jax benchmark {name} --config=digits{more}",
            allow_abbrev=False,
        )
        kind.add_argument(
            "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
        )
        kind.add_argument("--json", action="store_true", help="print one JSON object")
        if name not in ("compile", "plan"):  # which take as long as they take
            kind.add_argument(
                "--seconds", type=float, default=5.0, help="for each measurement (default 5)"
            )
        for flag, settings in _OWN_FLAGS.get(name, {}).items():
            kind.add_argument(flag, **settings)
        kind.set_defaults(measure=measure)


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    started = time.perf_counter()  # the user waits for imports too
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    from vit_jax.runtime import compile_cache
    from vit_jax.runtime.signals import StopSignals

    compile_cache.enable()
    with StopSignals():
        found, show = options.measure(options, config, started)
    if options.json:
        print(found.to_json())
    else:
        show(found)
    return 0


# Each returns the figures, and the function that prints them.
_Measured = tuple[Any, Callable[[Any], None]]


def _input(options: argparse.Namespace, config: Any, _: float) -> _Measured:
    from vit_jax.benchmark.input import benchmark_input, print_input

    return benchmark_input(config, options.seconds), print_input


def _train(options: argparse.Namespace, config: Any, started: float) -> _Measured:
    from vit_jax.benchmark.steps import print_steps
    from vit_jax.benchmark.train import benchmark_train

    return benchmark_train(config, options.seconds, started), print_steps


def _infer(options: argparse.Namespace, config: Any, started: float) -> _Measured:
    from vit_jax.benchmark.infer import benchmark_infer
    from vit_jax.benchmark.steps import print_steps

    return benchmark_infer(config, options.seconds, options.batch, started), print_steps


def _attention(options: argparse.Namespace, config: Any, _: float) -> _Measured:
    from vit_jax.benchmark.attention import benchmark_attention, print_attention

    return benchmark_attention(config, options.seconds, options.kernel), print_attention


def _compile(_: argparse.Namespace, config: Any, __: float) -> _Measured:
    from vit_jax.benchmark.compile import benchmark_compile, print_compile

    return benchmark_compile(config), print_compile


def _save(options: argparse.Namespace, config: Any, _: float) -> _Measured:
    from vit_jax.benchmark.save import benchmark_save, print_save

    return benchmark_save(config, options.seconds, options.workdir), print_save


def _plan(options: argparse.Namespace, config: Any, _: float) -> _Measured:
    from vit_jax.planning.plan import make_plan
    from vit_jax.planning.table import print_plan

    plan = make_plan(config, options.devices, options.device, options.utilisation)
    return plan, print_plan


_KINDS: dict[str, tuple[str, Callable[[argparse.Namespace, Any, float], _Measured]]] = {
    "input": (
        "the input pipeline: images a second, bytes moved, and how long training waits for it",
        _input,
    ),
    "train": (
        "the training step: images a second, fraction of the matrix peak, memory, time to start",
        _train,
    ),
    "infer": ("the forward pass: the same figures", _infer),
    "attention": ("attention kernels alone: milliseconds, and difference from float64", _attention),
    "compile": ("how long compilation takes, cold and with a warm persistent cache", _compile),
    "save": ("checkpoints: how long training stands still, until one counts, to restore", _save),
    "plan": (
        "a training step on devices that need not be there: memory, communication, time",
        _plan,
    ),
}

_OWN_FLAGS: dict[str, dict[str, Any]] = {
    "infer": {
        "--batch": {"type": int, "help": "images a step (default config.batch_eval)"},
    },
    "attention": {
        "--kernel": {
            "action": "append",
            "default": [],
            "help": "xla or cudnn; may be given again (default: all that can serve)",
        },
    },
    "save": {
        "--workdir": {"help": "a folder on the disk to measure (default: for temporary files)"},
    },
    "plan": {
        "--devices": {"type": int, "required": True, "metavar": "N", "help": "how many"},
        "--device": {
            "default": "h100",
            "help": "a100, h100 (default), h200, tpu_v4, tpu_v5e, tpu_v5p, or a description: "
            "flops=1e12,memory=64e9,bandwidth=1e11,link=1e10,domain=1,network=1e9",
        },
        "--utilisation": {
            "type": float,
            "default": 0.5,
            "help": "of the peak, by operations (default 0.5)",
        },
    },
}

BENCHMARK = Command(
    "benchmark",
    "measure how fast this machine does what a config asks for",
    "vit_jax benchmark train --config=digits --config.batch=256",
    _arguments,
    _run,
)
