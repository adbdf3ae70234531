"""The command `benchmark plan`."""

import argparse
from typing import Any

# Every other import waits for the command: help and usage errors must be instant.


def add_plan(kinds: Any) -> None:
    """Declares `plan` among the kinds of benchmark (what `add_subparsers` returned)."""
    purpose = "a training step on devices that need not be there: memory, communication, time"
    kind = kinds.add_parser("plan", help=purpose, description=purpose, allow_abbrev=False)
    kind.add_argument(
        "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
    )
    kind.add_argument("--devices", type=int, required=True, metavar="N", help="how many")
    kind.add_argument(
        "--device",
        default="h100",
        help="a100, h100 (default), h200, tpu_v4, tpu_v5e, tpu_v5p, or a description: "
        "flops=1e12,memory=64e9,bandwidth=1e11,link=1e10,domain=1,network=1e9",
    )
    kind.add_argument(
        "--utilisation", type=float, default=0.5, help="of the peak, by operations (default 0.5)"
    )
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind.set_defaults(measure=_plan)


def _plan(options: argparse.Namespace, overrides: list[str]) -> int:
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    from vit_jax.planning.plan import make_plan
    from vit_jax.planning.table import print_plan

    plan = make_plan(config, options.devices, options.device, options.utilisation)
    if options.json:
        print(plan.to_json())
    else:
        print_plan(plan)
    return 0
