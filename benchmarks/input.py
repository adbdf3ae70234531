"""Images a second of one core, from files to training batches, beside other pipelines.

    python benchmarks/input.py FOLDER [--packed FOLDER] [--ppm FOLDER] [--rounds 5] [--json]

FOLDER holds photographs as `train/CLASS/*.jpg`. Every side makes batches of 64 random crops
(5 to 100 % of the image, mirrored half the time) of 224 px out of them:

  vit_jax               what `vit_jax train` does, uint8; the mirror image is made on the device
  packed                the same from the folder that `vit_jax pack` made of FOLDER, if it is given
  packed as PPM         the same from what `vit_jax pack --format=ppm` made of it, if it is given
  pillow                the usual way: decode, crop, resize and mirror by Pillow, float32
  official              the official pipeline in TensorFlow, float32
  decode_and_crop_jpeg  the same in TensorFlow at its best: only the crop is unpacked, uint8

And CIFAR-10 at 384 px, from 32 px images in memory (random ones, which take the same time), as
vit_jax gathers them on the device, for the step to crop and enlarge, and as the official pipeline
enlarges them on the host.

Each side runs in a process of its own, on one thread, and they take turns, round by round. The
figure is images by processor time, which other programs disturb less than the clock. TensorFlow is
not a dependency: without it, its sides are left out, and that is said.
"""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import machine
from peers import tf_input

from vit_jax.data.arrays import from_arrays
from vit_jax.data.augment_host import BOX_NUMBERS, example_generator, random_box
from vit_jax.data.folder import open_folder
from vit_jax.data.pipeline import Feed, Loading
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import Source
from vit_jax.mesh import batch_sharding, make_mesh

BATCH, SIZE, CIFAR_SIZE, AREA = 64, 224, 384, (0.05, 1.0)


def main() -> None:
    """Measures, or, as a process of one side, runs it and prints its rate."""
    options = parse_arguments()
    if options.side:
        print(rate(SIDES[options.side](options), options.batches))
        return
    without = {"packed"} if options.packed is None else set()
    without |= {"packed as PPM"} if options.ppm is None else set()
    if importlib.util.find_spec("tensorflow") is None:
        print("TensorFlow is not installed: its sides are left out", file=sys.stderr)
        without |= TENSORFLOW
    names = [name for name in SIDES if name not in without]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            rates[name].append(run_apart(name, options))
    if options.json:
        print(json.dumps({"machine": machine.describe(), "rates": rates}, indent=2))
    else:
        report(rates)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="Images a second of one core.")
    parser.add_argument("folder", type=Path, help="photographs: train/CLASS/*.jpg")
    parser.add_argument("--packed", type=Path, help="what `vit_jax pack` made of them")
    parser.add_argument("--ppm", type=Path, help="what `vit_jax pack --format=ppm` made of them")
    parser.add_argument("--rounds", type=int, default=5, help="processes for each side")
    parser.add_argument("--batches", type=int, default=32, help=f"timed batches of {BATCH}")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def files(options: argparse.Namespace) -> list[str]:
    """Returns the photographs."""
    found = [str(path) for path in sorted(options.folder.glob("train/*/*.jpg"))]
    if not found:
        raise SystemExit(f"{options.folder}: no train/CLASS/*.jpg")
    return found


def ours(source: Source, size: int) -> Iterator[Any]:
    """Returns the training batches of `vit_jax train`, decoded by one thread."""
    sharding = batch_sharding(make_mesh())
    feed = Feed(
        source, BATCH, Loading(Preprocess((size, size)), sharding, crop_area=AREA, threads=1)
    )
    return map(jax.block_until_ready, feed.training(0, 10**9))


def pillow(files: list[str]) -> Iterator[np.ndarray]:
    """Yields float32 batches in random order, as most training scripts make them."""
    generator = np.random.default_rng(0)
    while True:
        chosen = generator.integers(0, len(files), BATCH)
        yield np.stack([pillow_crop(files[i], example_generator(0, 0, int(i))) for i in chosen])


def pillow_crop(file: str, generator: np.random.Generator) -> np.ndarray:
    """Returns one image as float32 from -1 to 1."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    numbers = generator.random(BOX_NUMBERS).tolist()
    left, top, right, bottom = (round(x) for x in random_box(numbers, image.size, AREA))
    image = image.crop((left, top, right, bottom)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    if generator.random() > 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return (np.asarray(image, np.float32) - 127.5) / 127.5


def cifar() -> np.ndarray:
    """Returns images of the size and number of a tenth of CIFAR-10."""
    return np.random.default_rng(0).integers(0, 256, (5000, 32, 32, 3), np.uint8)


SIDES: dict[str, Callable[[argparse.Namespace], Iterator[Any]]] = {
    "vit_jax": lambda given: ours(open_folder(given.folder, "train"), SIZE),
    "packed": lambda given: ours(open_folder(given.packed, "train"), SIZE),
    "packed as PPM": lambda given: ours(open_folder(given.ppm, "train"), SIZE),
    "pillow": lambda given: pillow(files(given)),
    "official": lambda given: tf_input.official(files(given), SIZE),
    "decode_and_crop_jpeg": lambda given: tf_input.best(files(given), SIZE),
    "vit_jax, CIFAR-10": lambda _: ours(from_arrays(cifar(), np.arange(5000) % 10), CIFAR_SIZE),
    "official, CIFAR-10": lambda _: tf_input.official_cifar(cifar(), CIFAR_SIZE),
}
TENSORFLOW = {"official", "decode_and_crop_jpeg", "official, CIFAR-10"}


def rate(batches: Iterator[Any], count: int) -> float:
    """Returns images by second of processor time, once all is compiled and read ahead."""
    for _ in itertools.islice(batches, 8):
        pass
    before = time.process_time()
    for _ in itertools.islice(batches, count):
        pass
    return count * BATCH / (time.process_time() - before)


def run_apart(name: str, options: argparse.Namespace) -> float:
    """Measures one side in a fresh process."""
    given = [str(options.folder), f"--side={name}", f"--batches={options.batches}"]
    if options.packed:
        given.append(f"--packed={options.packed}")
    if options.ppm:
        given.append(f"--ppm={options.ppm}")
    done = subprocess.run(
        [sys.executable, __file__, *given], stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


def report(rates: dict[str, list[float]]) -> None:
    """Prints the table and the machine; speeds are relative to the official side of the kind."""
    print("| side | images/s a core (min – max) | speed |\n| --- | --: | --: |")
    for name, own in rates.items():
        base = rates.get("official" + name[name.index(",") :] if "," in name else "official")
        middle = statistics.median(own)
        speed = f"{middle / statistics.median(base):.2f}×" if base else ""
        print(f"| {name} | {middle:,.0f} ({min(own):,.0f} – {max(own):,.0f}) | {speed} |")
    print(f"\n{machine.line(machine.describe())}")


if __name__ == "__main__":
    main()
