"""The flags of a command that several processes run together."""

import argparse


def add_job(parser: argparse.ArgumentParser) -> None:
    """Declares how a process finds the others of its job."""
    parser.add_argument(
        "--distributed", action="store_true", help="one of several processes: ask the cluster"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes there are")
    parser.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    parser.add_argument(
        "--patience", type=int, default=300, metavar="SECONDS", help="for the others (default 300)"
    )
    parser.add_argument(
        "--heartbeat",
        type=int,
        default=60,
        metavar="SECONDS",
        help="silence after which a process counts as dead, and all end (default 60)",
    )
    parser.add_argument(
        "--stall",
        type=int,
        default=1800,
        metavar="SECONDS",
        help="time without a step after which all end: one hangs (default 1800)",
    )


def join_job(options: argparse.Namespace) -> None:
    """Makes this process one of the job that the flags describe, if they do."""
    explicit = (options.coordinator, options.processes, options.process)
    if options.distributed or explicit != (None, None, None):
        from vit_jax.runtime import processes

        processes.join(*explicit, options.patience, options.heartbeat, options.stall)
