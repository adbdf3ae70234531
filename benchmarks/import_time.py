"""How long `import vit_jax` and `vit_jax --help` take, each in a fresh process.

    python benchmarks/import_time.py [--rounds 5] [--json]

Prints the median of the rounds, which go through all commands in turn, the start of Python
included, and which of the heavy packages each import loads. Ends with an error if `import vit_jax`
loads TensorFlow, PyTorch or Matplotlib.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import machine

HEAVY = ("jax", "flax", "orbax", "tensorflow", "tensorflow_datasets", "torch", "matplotlib")
FORBIDDEN = {"tensorflow", "torch", "matplotlib"}  # for `import vit_jax`
IMPORTS = ("import vit_jax", "import vit_jax.train", "import jax, flax.linen, optax")


def main() -> None:
    """Measures and prints; exits with 1 if something was loaded that must not be."""
    parser = argparse.ArgumentParser(description="Time of imports and of --help.")
    parser.add_argument("--rounds", type=int, default=5, help="processes for each command")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in commands()}
    for _ in range(options.rounds):
        for name, command in commands().items():
            seconds[name].append(elapsed(command))
    packages = {name: loaded(name) if name in IMPORTS else None for name in seconds}
    report(seconds, packages, as_json=options.json)
    if wrong := FORBIDDEN & set(packages["import vit_jax"] or ()):
        raise SystemExit(f"import vit_jax loads {', '.join(sorted(wrong))}")


def commands() -> dict[str, list[str]]:
    """Returns what is measured, by the name it has in the table."""
    script = Path(sys.executable).with_name("vit_jax")
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        **{statement: [sys.executable, "-c", statement] for statement in IMPORTS},
        "vit_jax --help": [str(script), "--help"],
    }


def elapsed(command: list[str]) -> float:
    """Returns the seconds a command takes from start to exit."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def loaded(statement: str) -> list[str]:
    """Returns the heavy packages that are loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    modules = json.loads(done.stdout)
    return [name for name in HEAVY if name in modules]


def report(
    seconds: dict[str, list[float]], packages: dict[str, list[str] | None], *, as_json: bool
) -> None:
    """Prints the table and the machine, or all of it as JSON."""
    here = machine.describe()
    if as_json:
        print(json.dumps({"machine": here, "seconds": seconds, "loaded": packages}, indent=2))
        return
    print("| command | s (min – max) | loads |")
    print("| --- | --: | --- |")
    for name, runs in seconds.items():
        heavy = packages[name]
        what = "" if heavy is None else ", ".join(heavy) or "none of them"
        span = f"{statistics.median(runs):.2f} ({min(runs):.2f} – {max(runs):.2f})"
        print(f"| `{name}` | {span} | {what} |")
    print(machine.line(here))


if __name__ == "__main__":
    main()
