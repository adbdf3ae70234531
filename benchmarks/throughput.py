"""Images a second of a Vision Transformer, trained or applied, by vit_jax and by PyTorch.

    python benchmarks/throughput.py --model ViT-Ti_16 --batch 32 --dtype float32 --mode train

Every side has the same architecture, batch, optimiser and dtype: float32, or bfloat16 computation
over float32 parameters (`torch.autocast` there, `dtype` here). Images are random and lie on the
device. The sides:

  vit_jax       the step that `vit_jax train` runs: uint8 images, normalised inside, check for
                overflow, metrics; or its forward pass, from uint8 images too
  torch         the model written plainly with F.scaled_dot_product_attention
  timm          timm's VisionTransformer
  transformers  ViTForImageClassification
  official      the model class of the official repository, from a checkout named by --peer, in a
                plain jitted step, in float32 whatever --dtype says: it knows no other

Those in PyTorch run eagerly, compiled (torch.compile) and, on a GPU, autotuned (its mode
max-autotune), with each attention backend forced that the device has for the dtype; applied in
bfloat16 also pure: compiled, the parameters themselves in bfloat16. What is not installed is left
out, and that is said. Each side runs in a process of its own with the same number of cores, and
they take turns, round by round; one that fails is out, and the others go on.

A round's time is the median of its timed steps; the start, until a first result, is apart. What the
first round compiled, or chose by trial, is kept for the others, on every side: its start is
the cold one. Memory is the most that the allocator of a GPU had handed out, in JAX as in PyTorch,
without what either holds in reserve; on a CPU that of the process. Runs on a CPU, or on the first
NVIDIA GPU there is. `--keep NAME` writes what was found to benchmarks/results/benchmarks/NAME.json,
`--so-far FILE` what there is after every process; the same command goes on from there.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
from peers import torch_vit
from rounds import Taken, medians_ms, print_table, run_apart, take_turns, verdict
from sides import PURE, Measured, officially, ours, theirs

OURS = "vit_jax"
OFFICIAL = "official"
LIBRARIES = ("torch", "timm", "transformers")
NEEDED = {"timm": ("torch", "timm", "torchvision")}  # timm does not import without
KEPT = Path(__file__).resolve().parent / "results" / "benchmarks"
PASSED_ON = ("model", "size", "batch", "dtype", "mode", "optimizer", "steps", "threads", "device")
PASSED_ON += ("peer",)
GPU_SHARE = ".92"  # JAX takes .75 by itself, PyTorch all it can get


def main() -> None:
    """Measures, or, as a process of one side, runs it and prints what it found."""
    options = parse_arguments()
    if options.side:
        limit_cores(options.threads)
        make = {OURS: ours, OFFICIAL: officially}.get(options.side, theirs)
        print(json.dumps(measure(make, options)))
        return
    names = [OURS, *[OFFICIAL] * bool(options.peer), *peers(options)]
    taken = begun(names, options)
    with tempfile.TemporaryDirectory() as cache:
        around = surroundings(options, Path(cache))
        take_turns(
            taken,
            options.rounds,
            lambda name: run_apart(__file__, name, options, PASSED_ON, around),
            lambda taken: keep(taken, options),
        )
    report(taken, options)
    if OURS in taken.failed:
        sys.exit(1)  # there is nothing to compare


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="vit_jax beside PyTorch, images a second.")
    parser.add_argument("--model", default="ViT-Ti_16", help="a model with a class token")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each side")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a process")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores for each side")
    here = "cuda" if shutil.which("nvidia-smi") else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=here)
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="of these peers")
    parser.add_argument("--ways", help="of eager, compiled, pure, autotuned (default: all)")
    parser.add_argument("--backends", help="of attention: math, flash, cudnn, efficient")
    parser.add_argument("--peer", help="checkout of the official repository")
    parser.add_argument("--keep", metavar="NAME", help="write the results to this name, too")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--so-far", type=Path, help="a file for what there is, after every process")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if PURE in (options.ways or "").split(",") and not has_pure(options):
        parser.error(f"--ways={options.ways}: {PURE} is for --mode=infer --dtype=bfloat16")
    return options


def has_pure(options: argparse.Namespace) -> bool:
    """Returns whether parameters may lie in bfloat16: a training keeps them in float32."""
    return options.mode == "infer" and options.dtype == "bfloat16"


def peers(options: argparse.Namespace) -> list[str]:
    """Returns the sides in PyTorch: "timm compiled flash", …"""
    on_gpu = options.device == "cuda"
    pure = f",{PURE}" * has_pure(options)
    ways = (options.ways or f"eager,compiled{pure}" + ",autotuned" * on_gpu).split(",")
    backends = "flash"
    if on_gpu:  # in float32 neither of the others serves there
        backends = "flash,cudnn" if options.dtype == "bfloat16" else "efficient"
    named = (options.backends or backends).split(",")
    found = []
    for library in filter(None, options.libraries.split(",")):
        needed = NEEDED.get(library, ("torch", library))
        missing = [name for name in dict.fromkeys(needed) if not torch_vit.installed(name)]
        if missing:
            print(f"{library}: left out, not installed: {', '.join(missing)}", file=sys.stderr)
        else:
            found += [f"{library} {way} {backend}" for way in ways for backend in named]
    return found


def surroundings(options: argparse.Namespace, cache: Path) -> dict[str, str]:
    """Returns the variables that all sides run under; `cache` is for what they compile."""
    first_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        "JAX_PLATFORMS": options.device,
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_CLIENT_MEM_FRACTION": GPU_SHARE,
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "",  # its old name: JAX refuses to be given both
        "CUDA_VISIBLE_DEVICES": first_gpu if options.device == "cuda" else "",
        "OMP_NUM_THREADS": str(options.threads),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }


def limit_cores(count: int) -> None:
    """Leaves this process so many cores: XLA and PyTorch make a thread for each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def measure(
    make: Callable[[argparse.Namespace], Measured], options: argparse.Namespace
) -> dict[str, Any]:
    """Returns seconds of the start and of the steps after it, memory and versions.

    The start is all that comes before the first result: imports, initial values, compilation, which
    some sides do in their first call and others before it. On a GPU a timed step is the mean of ten
    that are dispatched at once, so that no side waits for the host.
    """
    together = 10 if options.device == "cuda" else 1
    start = time.perf_counter()
    side = make(options)
    side.wait(side.call())
    first = time.perf_counter() - start
    side.wait(side.call())
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        side.wait([side.call() for _ in range(together)][-1])
        seconds.append((time.perf_counter() - start) / together)
    return {
        "start": first,
        "steps": seconds,
        "peak_memory_bytes": side.peak_bytes() or machine.peak_bytes(),
        "parameters": side.parameters,
        "versions": side.versions,
    }


def begun(names: list[str], options: argparse.Namespace) -> Taken:
    """Returns the sides with the rounds that `--so-far` has of the same, on the same machine."""
    if options.so_far and options.so_far.exists():
        left, asked = json.loads(options.so_far.read_text()), measured(options)
        if {key: left.get(key) for key in asked} == asked and [*left["rounds"]] == names:
            return Taken(left["rounds"], {})
    return Taken({name: [] for name in names}, {})


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what is measured, and on what; it takes no memory of a GPU to tell."""
    asked = {key: getattr(options, key) for key in PASSED_ON if key != "peer"}
    cards = machine.cards()[:1] if options.device == "cuda" else []
    return asked | {"machine": machine.describe(cards)}


def keep(taken: Taken, options: argparse.Namespace) -> None:
    """Writes what there is so far, marked as not complete.

    Raises:
      SystemExit: a side has not as many parameters as ours.
    """
    if options.so_far:
        beside = options.so_far.with_suffix(".tmp")
        beside.write_text(f"{described(taken, options, complete=False)}\n")
        beside.replace(options.so_far)  # whole at any moment
    check_same(taken.rounds)


def check_same(rounds: dict[str, list[dict[str, Any]]]) -> None:
    """Ends the program unless all sides have as many parameters as ours."""
    counts = {name: results[0]["parameters"] for name, results in rounds.items() if results}
    for name, count in counts.items():
        if count != counts.get(OURS, count):
            raise SystemExit(f"{name}: {count} parameters, ours: {counts[OURS]}")


def described(taken: Taken, options: argparse.Namespace, complete: bool) -> str:
    """Returns all that was found, as JSON; why a side has no more rounds is under "failed"."""
    times = medians_ms(taken.rounds)
    found = measured(options) | {"complete": complete, **taken._asdict()}
    verdicts = {name: verdict(times[OURS], own) for name, own in times.items() if name != OURS}
    return json.dumps(found | {"medians_ms": times, "vit_jax_is": verdicts}, indent=2)


def report(taken: Taken, options: argparse.Namespace) -> None:
    """Prints the table and the machine, or all of it as JSON."""
    found = described(taken, options, complete=True)
    if options.keep:
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{options.keep}.json").write_text(f"{found}\n")
    if options.json:
        print(found)
        return
    asked = measured(options)
    here = machine.line(asked.pop("machine"))
    print(", ".join(f"{key} {value}" for key, value in asked.items()))
    headings = ("start, s", "step, ms (min – max)", "images/s", "memory, GB")
    print_table(("side",), (*headings, "vit_jax against it"), rows(taken, options.batch))
    for name, reason in taken.failed.items():
        print(f"{name} failed: {reason}")
    of_sides = [results[0]["versions"] for results in taken.rounds.values() if results]
    versions = {name: version for of in of_sides for name, version in of.items()}
    print(here, *(f"{name} {version}" for name, version in versions.items()), sep=", ")


def rows(taken: Taken, images: int) -> list[list[str]]:
    """Returns the table: the start that compiled all, the steps, and a verdict."""
    times, found = medians_ms(taken.rounds), []
    for name, own in times.items():
        results, cells, ratio = taken.rounds[name], [""] * 4, ""
        if own:
            middle = statistics.median(own)
            cells = [
                f"{results[0]['start']:.1f}",
                f"{middle:.1f} ({min(own):.1f} – {max(own):.1f})",
                f"{1000 * images / middle:,.1f}",
                f"{max(result['peak_memory_bytes'] for result in results) / 1e9:.2f}",
            ]
            if times[OURS]:
                ratio = f"{middle / statistics.median(times[OURS]):.2f}× "
        against = f"{ratio}{verdict(times[OURS], own)}" if name != OURS else ""
        found.append([name, *cells, against])
    return found


if __name__ == "__main__":
    main()
