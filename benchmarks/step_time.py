"""Time of one training step on this machine's CPU, beside other implementations of the model.

    python benchmarks/step_time.py --rounds 3 [--peer CHECKOUT] [--json]

The sides take the same steps from the same parameters on the same random images:

  vit_jax     the step that `vit_jax train` runs: uint8 images, normalised inside, official SGD
              (momentum in bfloat16, gradient clipped to norm 1), check for overflow, metrics
  merged qkv  that step with query, key and value computed by one matrix product
  plain flax  the same model in plain Flax (`peers/plain_flax.py`), the same optimiser, a plain
              jitted step with donated state, on float32 images normalised beforehand
  official    the model class of the official repository, from a checkout named by --peer, in that
              same plain step

Before anything is timed, all sides take two steps; both losses must agree, and so must model,
gradient and optimiser. Then each side runs in a process of its own, one after the other, round by
round. A round's time is the median of its timed steps; the first call, which compiles, is apart.
"""

import argparse
import functools
import json
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine
import numpy as np
import rounds as rounds_of
from peers import official, plain_flax
from rounds import medians_ms, print_table, verdict
from sides import NO_DROPOUT  # it would draw differently

from vit_jax import trees
from vit_jax.config import default_config
from vit_jax.data.augmentation import Augmentation
from vit_jax.experiment import make_model, make_preprocess
from vit_jax.mesh import batch_sharding, make_mesh
from vit_jax.models.zoo import model_fields
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.recipes import merge
from vit_jax.state import abstract_state, initial_state
from vit_jax.step import StepSettings, compiled, make_train_step

CLASSES = 1000
TOTAL_STEPS = 1000  # of the schedule; few of them are taken
CHECK_STEPS = 2
TOLERANCE = 1e-4
BASELINE = "plain flax"


class Side(NamedTuple):
    """An implementation, ready to run: `state, {"loss": …} = step(state, batch)`."""

    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
    state: Any
    batch: dict[str, jax.Array]


class Row(NamedTuple):
    """A side's line of the table; the milliseconds are over the rounds."""

    side: str
    first_call_s: float
    min_ms: float
    median_ms: float
    max_ms: float
    cpu_ms: float
    images_per_s: float
    speed: float
    verdict: str


def main() -> None:
    """Measures, or, as a process of one side, runs it and prints what it found."""
    options = parse_arguments()
    if options.side:
        print(json.dumps(measure(SIDES[options.side](options), options.steps)))
        return
    names = [name for name in SIDES if name != "official" or options.peer]
    check_losses({name: run_apart(name, options, CHECK_STEPS) for name in names})
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            rounds[name].append(run_apart(name, options, options.steps))
    report(rows(rounds, options.batch), rounds, options)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="Time of one training step on a CPU.")
    parser.add_argument("--model", default="ViT-Ti_16", help="a model with a class token")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each side")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a process")
    parser.add_argument("--peer", type=Path, help="checkout of the official repository")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "resnet" in model_fields(options.model):
        parser.error(f"--model {options.model}: plain flax has no hybrids here")
    return options


def ours(options: argparse.Namespace, merged_qkv: bool = False) -> Side:
    """Returns the step of `vit_jax train`, compiled over its mesh."""
    config = configured(options, merged_qkv)
    mesh, model, preprocess = make_mesh(), make_model(config, CLASSES), make_preprocess(config)
    schedule = make_schedule(TOTAL_STEPS, config.base_lr, config.decay_type, config.warmup_steps)
    optimizer = make_optimizer(config, schedule)
    initial = functools.partial(initial_state, model, optimizer, preprocess.size, config.seed)
    abstract = abstract_state(mesh, jax.eval_shape(initial))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    state = jax.jit(initial, out_shardings=shardings)()
    params = jax.device_put(parameters_like(abstract.params), shardings.params)
    step = make_train_step(
        model, optimizer, schedule, StepSettings(CLASSES, preprocess, Augmentation())
    )
    pixels, labels = random_batch(options)
    rows = np.arange(options.batch, dtype=np.int32)
    batch = {"image": pixels, "label": labels, "epoch": np.zeros_like(rows), "index": rows}
    return Side(
        compiled(step, mesh, abstract),
        state.replace(params=params),
        jax.device_put(batch, batch_sharding(mesh)),
    )


def configured(options: argparse.Namespace, merged_qkv: bool) -> Any:
    """Returns the default settings, which are the official fine-tuning, without a warm-up."""
    attention = {"attention": {"merged_qkv": merged_qkv}}
    model = {"model_name": options.model, "transformer": NO_DROPOUT | attention}
    settings = {"model": model, "batch": options.batch, "pp": {"crop": options.size}}
    settings |= {"total_steps": TOTAL_STEPS, "warmup_steps": 0}
    return merge(default_config(), settings, "step_time.py")


def plain(options: argparse.Namespace) -> Side:
    """Returns the plain Flax model in the plain step."""
    fields = model_fields(options.model)
    encoder = fields["transformer"]
    model = plain_flax.ViT(
        classes=CLASSES,
        patch=fields["patches"]["size"][0],
        width=fields["hidden_size"],
        layers=encoder["num_layers"],
        heads=encoder["num_heads"],
        hidden=encoder["mlp_dim"],
    )
    return plain_side(options, model.init, model.apply)


def official_model(options: argparse.Namespace) -> Side:
    """Returns the official model in the plain step."""
    fields = model_fields(options.model)
    fields["transformer"] |= NO_DROPOUT
    model = official.load_model(options.peer, CLASSES, fields)
    train = functools.partial(model.apply, train=True)
    return plain_side(options, functools.partial(model.init, train=False), train)


SIDES: dict[str, Callable[[argparse.Namespace], Side]] = {
    "vit_jax": ours,
    "merged qkv": functools.partial(ours, merged_qkv=True),
    BASELINE: plain,
    "official": official_model,
}


def plain_side(
    options: argparse.Namespace, init: Callable[..., Any], apply: Callable[..., Any]
) -> Side:
    """Returns the plain step around a model, and its state."""
    pixels, labels = random_batch(options)
    images = jnp.asarray((pixels - 127.5) / 127.5, jnp.float32)
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), images[:1])["params"]
    params = jax.device_put(parameters_like(shapes))
    rule = plain_flax.optimizer(TOTAL_STEPS)
    step = plain_flax.plain_step(lambda params, images: apply({"params": params}, images), rule)
    return Side(step, (params, rule.init(params)), {"image": images, "label": jnp.asarray(labels)})


def parameters_like(shapes: trees.Tree) -> trees.Tree:
    """Returns random parameters that depend on a leaf's path alone: every side gets the same."""

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        noise = rng.normal(0.0, 0.05, leaf.shape).astype(np.float32)
        return noise + 1 if path.endswith("scale") else noise

    return trees.map_with_path(draw, shapes)


def random_batch(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels (b, h, w, 3) from 0 to 255 and labels (b,)."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (options.batch, options.size, options.size, 3), np.uint8)
    return pixels, rng.integers(0, CLASSES, options.batch, np.int32)


def measure(side: Side, steps: int) -> dict[str, Any]:
    """Returns seconds of the first call and of each step after it, and every loss."""
    state, seconds, cpu_seconds, losses = side.state, [], [], []
    for _ in range(steps + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        state, measured = jax.block_until_ready(side.step(state, side.batch))
        cpu_seconds.append(time.process_time() - cpu_start)
        seconds.append(time.perf_counter() - start)
        losses.append(float(measured["loss"]))
    return {
        "first_call": seconds[0],
        "steps": seconds[1:],
        "cpu": cpu_seconds[1:],
        "losses": losses,
    }


def run_apart(name: str, options: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Measures one side in a fresh process, on the CPU, with nothing compiled beforehand."""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    keys = ("model", "size", "batch", "peer")
    return rounds_of.run_apart(__file__, name, options, keys, environment, steps=steps)


def check_losses(results: dict[str, dict[str, Any]]) -> None:
    """Ends the program unless all sides found the same losses before and after their updates."""
    expected = results[BASELINE]["losses"]
    for name, result in results.items():
        if not np.allclose(result["losses"], expected, rtol=TOLERANCE, atol=0):
            raise SystemExit(f"{name}: losses {result['losses']}, but {BASELINE}: {expected}")
    if np.ptp(expected) == 0:
        raise SystemExit(f"the losses {expected} do not move: they prove nothing")


def rows(rounds: dict[str, list[dict[str, Any]]], batch: int) -> list[Row]:
    """Returns the table; speeds are relative to plain flax, by the medians."""
    times = medians_ms(rounds)
    base = times[BASELINE]
    return [
        Row(
            name,
            statistics.median(result["first_call"] for result in rounds[name]),
            min(own),
            middle := statistics.median(own),
            max(own),
            1000 * statistics.median(cpu for run in rounds[name] for cpu in run["cpu"]),
            1000 * batch / middle,
            statistics.median(base) / middle,
            verdict(own, base) if name != BASELINE else "",
        )
        for name, own in times.items()
    ]


def report(
    table: list[Row], rounds: dict[str, list[dict[str, Any]]], options: argparse.Namespace
) -> None:
    """Prints the table and the machine, or all of it as JSON."""
    here = machine.describe()
    if options.json:
        asked = {key: getattr(options, key) for key in ("model", "size", "batch", "steps")}
        sides = [row._asdict() for row in table]
        print(json.dumps(asked | {"machine": here, "sides": sides, "rounds": rounds}, indent=2))
        return
    print(f"{options.model}, {options.size} px, batch {options.batch}, float32")
    headings = ("first call, s", "step, ms (min – max)", "CPU ms", "images/s", "speed", "")
    print_table(("side",), headings, [cells(row) for row in table])
    print(machine.line(here))


def cells(row: Row) -> tuple[str, ...]:
    """Returns a line of the table as text."""
    return (
        row.side,
        f"{row.first_call_s:.1f}",
        f"{row.median_ms:.0f} ({row.min_ms:.0f} – {row.max_ms:.0f})",
        f"{row.cpu_ms:.0f}",
        f"{row.images_per_s:.1f}",
        f"{row.speed:.2f}×",
        row.verdict,
    )


if __name__ == "__main__":
    main()
