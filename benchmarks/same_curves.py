"""Whether the fast ways of computing learn as the plain one does: loss curves side by side.

    python benchmarks/same_curves.py FOLDER [--steps 300] [--out FOLDER]

Trains the model of `configs/folder.py` at 32 px on an image folder (CIFAR-10, say), once for each
way, from the same initial values over the same images in the same order (that recipe has no
dropout, whose draws would differ). Printed are the largest differences from the plain way: of the
loss of a step at the beginning, where only rounding differs, and of the moving mean over all steps,
where small differences have grown as they do between any two machines; and the test accuracy at the
end.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import machine
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vit_jax.pictures.curves import moving_mean

EARLY = 20  # steps
PLAIN = "plain"
WAYS: dict[str, list[str]] = {
    PLAIN: [],
    "merged qkv": ["--config.model.transformer.attention.merged_qkv=True"],
    "blocks as a loop": ["--config.model.scan_blocks=True"],
    "remat": ["--config.model.transformer.remat=nothing_saveable"],
    "accumulation": ["--config.accum_steps=2"],
    "bfloat16": ["--config.dtype=bfloat16"],
}


def main() -> None:
    """Trains all ways, prints the table and draws the curves."""
    parser = argparse.ArgumentParser(description="Loss curves of all ways of computing.")
    parser.add_argument("folder", type=Path, help="images: {train,test}/CLASS/*")
    parser.add_argument("--steps", type=int, default=300, help="of each run")
    parser.add_argument("--out", type=Path, default=Path("runs/same_curves"), help="workdirs")
    options = parser.parse_args()
    curves = {}
    for name, flags in WAYS.items():
        print(name, file=sys.stderr)
        curves[name] = train(options, options.out / name.replace(" ", "_"), flags)
    report(curves)
    draw(curves, options.out / "curves.png")
    print(f"\n{machine.line(machine.describe())}\npicture  {options.out / 'curves.png'}")


def train(options: argparse.Namespace, workdir: Path, flags: list[str]) -> list[dict[str, float]]:
    """Runs one way, or goes on with it, and returns the lines of its metrics."""
    given = {"total_steps": options.steps, "warmup_steps": options.steps // 10}
    given |= {"eval_every": options.steps, "progress_every": 1}
    settings = [f"--config.{key}={value}" for key, value in given.items()]
    command = [sys.executable, "-m", "vit_jax.main", "train", f"--workdir={workdir}"]
    command += [f"--config=folder:{options.folder},32", *settings, *flags]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(lines: list[dict[str, float]]) -> np.ndarray:
    """Returns the training loss of each step."""
    return np.array([line["loss"] for line in lines if "loss" in line])


def report(curves: dict[str, list[dict[str, float]]]) -> None:
    """Prints how far each way is from the plain one."""
    print(f"| way | loss, first {EARLY} steps | moving mean | test accuracy |")
    print("| --- | --: | --: | --: |")
    plain = losses(curves[PLAIN])
    for name, lines in curves.items():
        own = losses(lines)
        early = np.abs(own - plain)[:EARLY].max()
        mean = np.abs(np.subtract(moving_mean(own.tolist()), moving_mean(plain.tolist()))).max()
        accuracy = [line["test_accuracy"] for line in lines if "test_accuracy" in line][-1]
        print(f"| {name} | {early:.1e} | {mean:.4f} | {accuracy:.2%} |")


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draws the moving means of all losses over each other."""
    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(title="Loss by ways of computing", xlabel="step", ylabel="cross-entropy (nats)")
    axes.grid(alpha=0.3)
    for (name, lines), dashes in zip(
        curves.items(), ("-", "--", "-.", ":", "--", "-."), strict=True
    ):
        axes.plot(moving_mean(losses(lines).tolist()), dashes, label=name, linewidth=1.2)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
