"""Everything to be measured on an accelerator, in the order of its worth, within a given time.

    python benchmarks/accelerator.py RESULTS [--minutes 25] [--peer CHECKOUT] [--only NAME …]
    python benchmarks/accelerator.py RESULTS --list [--small]

Each job is one command of this folder or of `vit_jax benchmark`, whose JSON becomes
RESULTS/NAME.json and whose messages RESULTS/NAME.log. Jobs that have their JSON are not run again,
so that the same command goes on where time, or the machine, ended. One that fails does not stop the
others. A comparison that is cut short leaves the rounds that it had in RESULTS/NAME.partial.json,
and goes on from there if the machine is the same. With --small the same jobs run at sizes that a
laptop's processor can do, as a rehearsal.

What is asked of a card first, and the job that tells: what its products can do (`matmuls`) and its
attention kernels (`attention`; `short_attention` has a candidate of our own beside them, for Hopper
GPUs alone, and is no part of a rehearsal); images a second beside the best of timm, of training
(`train_beside`: compiled, each attention backend) and of inference (`infer_beside`: also with
parameters in bfloat16); training beside the official code (`official`: ours in bfloat16, theirs in
float32, as it is shipped; it needs a checkout, --peer); how long a save holds a run up (`save`);
the start, cold (`train`) and with what an earlier one compiled (`train_warm`: the second of two
processes that share a cache). These are meant to fit into 25 minutes. Then other models, 384 px,
peak memory of both at the largest batch (`large_batch_beside`), other peers, and other ways of
computing, among them flags of XLA. Sides that are compared take turns in three rounds; a job of
`vit_jax benchmark` is one process: between two of them only large differences tell.
"""

import argparse
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TextIO

HERE = Path(__file__).parent


class Job(NamedTuple):
    """A command: a script of this folder, or `vit_jax benchmark`, and the minutes it may take.

    It is run so many times, with one cache of compiled programs, empty at first, and the last one's
    JSON is kept. `xla_flags` come after those of the environment.
    """

    name: str
    minutes: float
    command: tuple[str, ...]
    times: int = 1
    xla_flags: str = ""


class Scale(NamedTuple):
    """How large the work is: models, pixels, and images a batch for each model.

    `seconds` are those of a measurement of `vit_jax benchmark`; `steps` those of a round.
    """

    models: tuple[str, ...]
    pixels: tuple[int, int]
    batches: tuple[int, ...]
    seconds: float
    rounds: int
    steps: int


CARD = Scale(("ViT-B_16", "ViT-S_16", "ViT-L_16"), (224, 384), (256, 512, 128), 3.0, 3, 5)
REHEARSAL = Scale(("ViT-Ti_16", "ViT-S_16", "ViT-B_16"), (32, 48), (2, 2, 2), 0.2, 1, 1)
# A job each, beside `train`: what is said to gain on a card, with reasons in LOG.md.
XLA_FLAGS = {
    "no_dot_merger": "--xla_gpu_dot_merger_threshold_mb=0",
    "no_excess_precision": "--xla_allow_excess_precision=false",
    "no_triton_gemm": "--xla_gpu_enable_triton_gemm=false",
}


def main() -> None:
    """Runs the jobs that are left, as far as the time goes."""
    options = parse_arguments()
    jobs = [job for job in listed(options) if not options.only or job.name in options.only]
    if options.list:
        for job in jobs:
            flags = f"XLA_FLAGS={job.xla_flags} " if job.xla_flags else ""
            print(f"{job.name}\t{job.minutes} min\t{flags}{' '.join(job.command)}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    options.results.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    for job in jobs:
        if (options.results / f"{job.name}.json").exists():
            continue
        left = end - time.monotonic()
        if left < 20 * job.minutes:  # a third of its time: not worth a start
            print(f"{job.name}: {left:.0f} s are left, not started")
            continue
        run(job, options.results, min(left, 60 * job.minutes))


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="All measurements on an accelerator.")
    parser.add_argument("results", type=Path, help="folder for JSON and logs")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all jobs")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these jobs")
    parser.add_argument("--list", action="store_true", help="print the jobs and stop")
    parser.add_argument("--peer", type=Path, help="checkout of the official repository")
    parser.add_argument("--small", action="store_true", help="a rehearsal on a processor")
    return parser.parse_args()


def listed(options: argparse.Namespace) -> list[Job]:
    """Returns the jobs in order."""
    scale = REHEARSAL if options.small else CARD
    (near, far), (first, *others) = scale.pixels, scale.models
    (batch, *their_batches) = scale.batches
    sizes = (f"--model={first}", f"--size={near}", f"--batch={batch}", "--dtype=bfloat16")
    inferred = ("--mode=infer", "--libraries=timm", "--ways=compiled,pure")
    official = ("--libraries=", f"--peer={options.peer}")
    autotuned = ("--libraries=timm", "--ways=autotuned")
    rest = ("--libraries=torch,transformers", "--ways=compiled")
    ours, beside = functools.partial(_ours, scale), functools.partial(_beside, scale)
    train = functools.partial(ours, "train", near, batch)
    attention = "--config.model.transformer.attention"
    jobs = [
        Job("matmuls", 2, ("matmuls.py", *sizes, f"--seconds={scale.seconds / 6}", "--json")),
        Job("attention", 2, ours("attention", near, batch)),
        Job("short_attention", 3, ("short_attention.py", f"--images={batch}", "--json")),
        Job("train_beside", 9, beside(first, near, batch)),
        Job("infer_beside", 9, beside(first, near, batch, *inferred)),
        Job("official", 5, beside(first, near, batch, *official)),
        Job("save", 2, ours("save", near, batch)),
        Job("train", 2, train()),
        Job("train_warm", 4, train(), times=2),
        *(
            Job(f"train_{model}", 9, beside(model, near, images))
            for model, images in zip(others, their_batches, strict=True)
        ),
        Job("train_far", 9, beside(first, far, batch // 2 or 1)),
        Job("large_batch_beside", 10, beside(first, near, 4 * batch)),
        Job("attention_far", 2, ours("attention", far, batch // 4 or 1)),
        Job("train_autotuned", 15, beside(first, near, batch, *autotuned)),
        Job("other_peers", 15, beside(first, near, batch, *rest)),
        Job("official_float32", 5, beside(first, near, batch, *official, "--dtype=float32")),
        Job("merged_qkv", 2, train(f"{attention}.merged_qkv=True")),
        Job("xla_attention", 2, train(f"{attention}.kernel=xla")),
        Job("scanned", 2, train("--config.model.scan_blocks=True")),
        Job("compile", 3, ours("compile", near, batch)),
        *(Job(name, 2, train(), xla_flags=flags) for name, flags in XLA_FLAGS.items()),
    ]
    impossible = ("short_attention",) if options.small else ()
    impossible += () if options.peer else ("official", "official_float32")
    return [job for job in jobs if job.name not in impossible]


def _ours(scale: Scale, kind: str, pixels: int, images: int, *more: str) -> tuple[str, ...]:
    """Returns a command of `vit_jax benchmark`, for the first model."""
    recipe = f"--config={HERE / 'recipe.py'}:{scale.models[0]},{images},{pixels}"
    timed = () if kind == "compile" else (f"--seconds={scale.seconds}",)
    return ("vit_jax", kind, recipe, "--config.dtype=bfloat16", "--json", *timed, *more)


def _beside(scale: Scale, model: str, pixels: int, images: int, *more: str) -> tuple[str, ...]:
    """Returns a comparison: of training, with timm compiled, where nothing else is said."""
    sizes = (f"--model={model}", f"--size={pixels}", f"--batch={images}", "--dtype=bfloat16")
    turns = (f"--rounds={scale.rounds}", f"--steps={scale.steps}", "--json")
    peers = more or ("--libraries=timm", "--ways=compiled")
    return ("throughput.py", *sizes, *turns, *peers)


def run(job: Job, results: Path, seconds: float) -> None:
    """Runs one job, and keeps its JSON if it ends well."""
    kind, *rest = job.command
    partial = results / f"{job.name}.partial.json"
    command = [sys.executable, str(HERE / kind), *rest]
    if kind == "vit_jax":
        command = [sys.executable, "-m", "vit_jax.main", "benchmark", *rest]
    elif kind == "throughput.py":
        command.append(f"--so-far={partial}")
    start, ended, said = time.monotonic(), "done", ""
    with (
        open(results / f"{job.name}.log", "a") as log,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        # What a process that is killed leaves behind goes with the folder.
        environment = os.environ | {"VIT_JAX_CACHE": folder, "TMPDIR": folder}
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {job.xla_flags}".strip()
        try:
            for _ in range(job.times):
                said = output(command, environment, log, start + seconds - time.monotonic())
            (results / f"{job.name}.json").write_text(said)
            partial.unlink(missing_ok=True)
            ended += "".join(f", but {name}: {why}" for name, why in _failed(said).items())
        except subprocess.TimeoutExpired:
            ended = f"ended after {seconds:.0f} s"
        except subprocess.CalledProcessError as error:
            ended = f"exit status {error.returncode}"
    print(f"{job.name}: {ended}, {time.monotonic() - start:.0f} s", flush=True)


def _failed(said: str) -> dict[str, str]:
    """Returns the sides or kernels that gave less than they should, and why; others say none."""
    return json.loads(said).get("failed", {})


def output(command: list[str], environment: dict[str, str], log: TextIO, seconds: float) -> str:
    """Returns what a command prints.

    The processes that it has started end with it, however it ends: one that is left behind would
    hold the card's memory.

    Raises:
      subprocess.TimeoutExpired: it took longer than so many seconds.
      subprocess.CalledProcessError: it ended with an error.
    """
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,  # a group of its own, which Ctrl-C does not reach
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return said


if __name__ == "__main__":
    main()
