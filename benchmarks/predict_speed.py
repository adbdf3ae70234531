"""What `vit_jax predict` costs an image beside the bare forward pass, on files of photographs.

    python benchmarks/predict_speed.py WEIGHTS FOLDER [--images 2000] [--rounds 4]

Both sides take the same batches in turns: the forward pass on one batch that is on the device
already, and everything from file names to probabilities, tracing and reading the compiled program
from the cache included. CPU ms are the processor time of all
threads, which other programs on the machine disturb little; images/s they halve.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import machine

from vit_jax.predict import open_classifier
from vit_jax.prediction.answers import answer
from vit_jax.prediction.inputs import expand
from vit_jax.runtime import compile_cache


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of predict beside the forward pass.")
    parser.add_argument("weights", help="what load_pretrained takes")
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--images", type=int, default=2000, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    trained = open_classifier(options.weights)
    names = expand([options.folder])[: options.images]
    part = len(names) // options.rounds
    figures: dict[str, list[tuple[float, float]]] = {"forward": [], "predict": []}
    compile_cache.enable()
    pixels = jnp.asarray(next(answer(trained, names[:64])).images)
    for number in range(options.rounds):
        chunk = names[number * part : (number + 1) * part]
        figures["predict"].append(timed(predict(trained, chunk), part))
        figures["forward"].append(timed(forward(trained, pixels, part), part))
    print(machine.line(machine.describe()))
    print(f"{len(names):,} photographs in {options.rounds} rounds")
    for name, rounds in figures.items():
        cpu, speed = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name}: {cpu:.1f} CPU ms an image, {speed:.1f} images/s")


def predict(trained, names: list[str]) -> Callable[[], object]:
    """Returns the reading and classifying of so many files."""
    return lambda: list(answer(trained, names))


def forward(trained, pixels: jax.Array, images: int) -> Callable[[], None]:
    """Returns what runs the model on a batch, again and again, until so many images are done."""

    @jax.jit
    def probabilities(variables, pixels):
        normal = trained.preprocess.normalize(pixels)
        return jax.nn.softmax(trained.model.apply(variables, normal, train=False), axis=-1)

    probabilities(trained.variables, pixels).block_until_ready()

    def run() -> None:
        for _ in range(0, images, len(pixels)):
            probabilities(trained.variables, pixels).block_until_ready()

    return run


def timed(call: Callable[[], object], images: int) -> tuple[float, float]:
    """Returns the CPU milliseconds an image, and images a second."""
    cpu, start = time.process_time(), time.perf_counter()
    call()
    return (
        1000 * (time.process_time() - cpu) / images,
        images / (time.perf_counter() - start),
    )


if __name__ == "__main__":
    main()
