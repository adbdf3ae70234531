"""Everything to be measured on an accelerator, in the order of its worth, within a given time.

    python benchmarks/accelerator.py RESULTS [--minutes 25] [--peer CHECKOUT] [--only NAME …]
    python benchmarks/accelerator.py RESULTS --list [--small]

Each job is one command of this folder or of `vit_jax benchmark`, whose JSON becomes
RESULTS/NAME.json and whose messages RESULTS/NAME.log. Jobs that have their JSON are not run again,
so that the same command goes on where time, or the machine, ended. One that fails does not stop the
others. With --small the same jobs run at sizes that a laptop's processor can do, as a rehearsal.

What is asked of a card, and the job that tells: images a second of training beside the best of timm
(`train_beside`, `train_autotuned`: each attention backend, compiled and autotuned), beside the
official code (`official`: ours in bfloat16, theirs in float32, as it is shipped;
`official_float32`: both in float32; they need a checkout, --peer), peak memory of both at the
largest batch (`large_batch_beside`), and the start with programs that an earlier one has compiled
(`train_warm`: the second of two processes that share a cache).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Job(NamedTuple):
    """A command: a script of this folder, or `vit_jax benchmark`, and the minutes it may take.

    It is run so many times, with one cache of compiled programs; the last one's JSON is kept.
    """

    name: str
    minutes: float
    command: tuple[str, ...]
    times: int = 1


class Scale(NamedTuple):
    """How large the work is: models, pixels, and images a batch for each model."""

    models: tuple[str, ...]
    pixels: tuple[int, int]
    batches: tuple[int, ...]
    seconds: float
    rounds: int


CARD = Scale(("ViT-B_16", "ViT-S_16", "ViT-L_16"), (224, 384), (256, 512, 128), 4.0, 3)
REHEARSAL = Scale(("ViT-Ti_16", "ViT-Ti_16", "ViT-Ti_16"), (32, 48), (2, 2, 2), 0.2, 1)


def main() -> None:
    """Runs the jobs that are left, as far as the time goes."""
    options = parse_arguments()
    jobs = [job for job in listed(options) if not options.only or job.name in options.only]
    if options.list:
        for job in jobs:
            print(f"{job.name}\t{job.minutes} min\t{' '.join(job.command)}")
        return
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
    dtype = "float32" if options.small else "bfloat16"
    (near, far), (first, *others) = scale.pixels, scale.models
    (batch, *their_batches) = scale.batches
    seconds = f"--seconds={scale.seconds}"

    def ours(kind: str, pixels: int, images: int, *more: str) -> tuple[str, ...]:
        recipe = f"--config={HERE / 'recipe.py'}:{first},{images},{pixels}"
        timed = () if kind == "compile" else (seconds,)
        return ("vit_jax", kind, recipe, f"--config.dtype={dtype}", "--json", *timed, *more)

    def beside(model: str, pixels: int, images: int, mode: str, *more: str) -> tuple[str, ...]:
        sizes = (f"--model={model}", f"--size={pixels}", f"--batch={images}", f"--mode={mode}")
        rounds = f"--rounds={scale.rounds}"
        return ("throughput.py", *sizes, f"--dtype={dtype}", rounds, "--json", *more)

    best = ("--libraries=timm", "--ways=compiled")
    autotuned = ("--libraries=timm", "--ways=autotuned", "--rounds=1")
    official = ("--libraries=", f"--peer={options.peer}")
    sizes = (f"--model={first}", f"--size={near}", f"--batch={batch}", f"--dtype={dtype}")
    return [
        Job("matmuls", 2, ("matmuls.py", *sizes, "--json")),
        Job("attention", 2, ours("attention", near, batch)),
        Job("attention_far", 2, ours("attention", far, batch // 4 or 1)),
        Job("train", 2, ours("train", near, batch)),
        Job("train_beside", 9, beside(first, near, batch, "train", *best)),
        Job("train_warm", 4, ours("train", near, batch), times=2),
        *(
            Job(name, 4, beside(first, near, batch, "train", *official, *more))
            for name, more in _OFFICIAL.items()
            if options.peer
        ),
        Job("train_autotuned", 9, beside(first, near, batch, "train", *autotuned)),
        Job("merged_qkv", 2, ours("train", near, batch, f"{_ENCODER}.attention.merged_qkv=True")),
        Job("xla_attention", 2, ours("train", near, batch, f"{_ENCODER}.attention.kernel=xla")),
        Job("scanned", 2, ours("train", near, batch, "--config.model.scan_blocks=True")),
        Job("infer_beside", 7, beside(first, near, batch, "infer", *best)),
        Job("save", 2, ours("save", near, batch)),
        Job("compile", 3, ours("compile", near, batch)),
        Job("large_batch_beside", 9, beside(first, near, 4 * batch, "train", *best, "--rounds=1")),
        *(
            Job(f"train_{model}", 9, beside(model, near, images, "train", *best))
            for model, images in zip(others, their_batches, strict=True)
            if not options.small
        ),
        Job("train_far", 9, beside(first, far, batch // 2 or 1, "train", *best)),
        Job("all_peers", 9, beside(first, near, batch, "train", "--ways=compiled", "--rounds=1")),
    ]


_ENCODER = "--config.model.transformer"
_OFFICIAL = {"official": (), "official_float32": ("--dtype=float32",)}  # of our own side


def run(job: Job, results: Path, seconds: float) -> None:
    """Runs one job, and keeps its JSON if it ends well."""
    kind, *rest = job.command
    command = [sys.executable, str(HERE / kind), *rest]
    if kind == "vit_jax":
        command = [sys.executable, "-m", "vit_jax.main", "benchmark", *rest]
    start, code, said = time.monotonic(), "0", ""
    with (
        open(results / f"{job.name}.log", "w") as log,
        tempfile.TemporaryDirectory() as cache,
    ):
        environment = os.environ | ({"VIT_JAX_CACHE": cache} if job.times > 1 else {})
        try:
            for _ in range(job.times):
                left = start + seconds - time.monotonic()
                done = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
                    timeout=left,
                )  # fmt: skip
                code, said = str(done.returncode), done.stdout
        except subprocess.TimeoutExpired:
            code, said = f"ended after {seconds:.0f} s", ""
    if code == "0":
        (results / f"{job.name}.json").write_text(said)
    print(f"{job.name}: {'done' if code == '0' else code}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
