"""Commands that check what runs have left: verify, diff."""

import argparse

from vit_jax.commands.command import Command

# Every other import waits for its command: help and usage errors must be instant.


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="workdir of a run")


def _verify(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.errors import CheckpointError
    from vit_jax.inspecting.verification import verify

    report = verify(options.workdir)
    print(*report.lines, sep="\n")
    return CheckpointError.exit_code if report.damaged else 0


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs=2, metavar="WORKDIR", help="workdir of a run")


def _diff(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.inspecting.divergence import compare

    comparison = compare(*options.workdirs)
    print(*comparison.lines, sep="\n")
    return 1 if comparison.differs else 0


VERIFY = Command(
    "verify",
    "check every byte of a run's checkpoints; exit code 3 if damaged",
    "vit_jax verify --workdir=runs/digits",
    _verify_arguments,
    _verify,
)

DIFF = Command(
    "diff",
    "show where two runs part; exit code 1 if they differ",
    "vit_jax diff runs/one runs/other",
    _diff_arguments,
    _diff,
)
