"""Keeps the log of a run as evidence for its recipe, and writes the table in configs/README.md.

    python benchmarks/record.py runs/mcvit compact_mcvit_cifar10 --data "CIFAR-10, PNG files" \
        --command "vit_jax train --config=compact_cifar:mcvit,CIFAR10" --reported "77.25 %"
    python benchmarks/record.py --table

The first copies `metrics.jsonl` of a workdir to benchmarks/results/recipes/NAME, with `run.json`,
which says how it was made and on what, and `config.json`, the settings that it had. A command that
gives others is refused, and one that names a folder by a word that is not in capitals. Names that
end in `_seed1`, `_seed2`, … are runs of one experiment and become one row. The second writes the
table anew from what is there; a test holds that it is current.
"""

import argparse
import dataclasses
import json
import re
import shlex
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import machine

from vit_jax.config import differences, flatten
from vit_jax.data.datasets import NAMES
from vit_jax.data.tfds import is_name
from vit_jax.models.encoder import Encoder
from vit_jax.models.zoo import model_fields
from vit_jax.recipes import load_config
from vit_jax.records.comparison import mean_and_spread
from vit_jax.records.metrics_file import TIMING, read_metrics
from vit_jax.settings import FROM_WEIGHTS, HARMLESS, KEYS
from vit_jax.settings.training import second_decay

BENCHMARKS = Path(__file__).resolve().parent
RUNS = BENCHMARKS / "results" / "recipes"
TABLE = BENCHMARKS.parent / "configs" / "README.md"
HEAD = """# What the recipes reach

Written by `python benchmarks/record.py --table` from the logs in `benchmarks/results/recipes`: no
number without a log. Scores are of the last evaluation, over all test images; "±" is the standard
deviation over seeds. Hours are those of the training steps alone, by the log. What a recipe takes
after its colon, and where it comes from, its first lines say.

"""
MANY_CLASSES = 100  # from which on others report top-5 beside accuracy
COLUMNS = (
    *("recipe", "data", "score", "reported elsewhere", "epochs", "hours", "hardware"),
    "logs, by seed",
)


def main() -> None:
    """Records a run, or writes the table."""
    parser = argparse.ArgumentParser(description="Evidence for the recipes.")
    parser.add_argument("workdir", type=Path, nargs="?", help="of a run that has ended")
    parser.add_argument("name", nargs="?", help="folder of the record; …_seed1 for one of several")
    parser.add_argument("--command", help="what a reader types, with FOLDER for a path")
    parser.add_argument("--data", help="what it was trained and tested on")
    parser.add_argument("--reported", default="", help="the score that somebody else reports")
    parser.add_argument("--note", default="", help="what differs from the recipe's whole run")
    parser.add_argument("--table", action="store_true", help="write configs/README.md")
    options = parser.parse_args()
    if options.workdir:
        if not (options.name and options.command and options.data):
            parser.error("a record needs WORKDIR, NAME, --command and --data")
        config = json.loads((options.workdir / "config.json").read_text())
        if word := private(options.command, config):
            parser.error(f"--command: {word!r} stands for a folder or file: write it in capitals")
        if found := unlike(options.command, portable(config)):
            parser.error(f"--command gives other settings than the run had: {found}")
        record(options.workdir, RUNS / options.name, vars(options))
    if options.table or options.workdir:
        TABLE.write_text(table(RUNS))


def record(workdir: Path, target: Path, said: dict[str, Any]) -> None:
    """Copies the log of a run, and writes beside it how it was made."""
    config = json.loads((workdir / "config.json").read_text())
    saved = json.loads(next(workdir.glob("checkpoints/*/metadata/metadata")).read_text())
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(workdir / "metrics.jsonl", target / "metrics.jsonl")
    (target / "config.json").write_text(json.dumps(portable(config), indent=1) + "\n")
    run = {
        **{key: said[key] for key in ("command", "data", "reported", "note")},
        "seed": config["seed"],
        "batch": config["batch"],
        "train_examples": saved["train_examples"],
        "classes": len(saved["class_names"]),
        "machine": machine.describe(),
    }
    (target / "run.json").write_text(json.dumps(run, indent=1) + "\n")


def portable(settings: Any) -> Any:
    """Returns settings without the folders of the machine: of a path the last part stays."""
    if isinstance(settings, dict):
        return {name: portable(value) for name, value in settings.items()}
    if isinstance(settings, str) and settings.startswith(("/", "~", ".")):
        return Path(settings).name
    return settings


def unlike(command: str, config: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns {setting: (of the run, of the command)} of those that make the command another run.

    The seed follows the command, words in capitals stand for folders, and what is left open is
    what weights or images said. A setting that the run is older than had its default then. None
    and the value that it stands for are the same.

    Args:
      command: `vit_jax train --config=RECIPE`, with flags.
      config: what `config.json` of the run holds.
    """
    told = flatten(portable(settings_of(command)))
    had = {path: key.default for path, key in KEYS.items()} | flatten(config)
    same = meant(had).keys() - differences(meant(had), meant(told))
    return {
        key: (own, other)
        for key, (own, other) in differences(had, told).items()
        if key not in HARMLESS | {"seed"} | same
        and not (other is None and key in FROM_WEIGHTS)
        and not (isinstance(other, str) and other.isupper())
    }


def private(command: str, config: dict[str, Any]) -> str | None:
    """Returns the word for the data in a command that only those who made the run could follow.

    What a reader can follow is a word in capitals, or the name of a dataset that anyone can get.
    """
    word, given = settings_of(command)["dataset"], config["dataset"]
    known = word in NAMES or is_name(word)
    return word if not word.isupper() and (not known or given != portable(given)) else None


def settings_of(command: str) -> dict[str, Any]:
    """Returns the settings that a command gives: those of its recipe, and its flags over them."""
    flags = [word for word in shlex.split(command) if word.startswith("--")]
    (recipe,) = (flag.split("=", 1)[1] for flag in flags if flag.startswith("--config="))
    return load_config(recipe, [flag for flag in flags if flag.startswith("--config.")]).to_dict()


def meant(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns flat settings with what None stands for, where that is known without weights."""
    known = {"beta2": second_decay(settings["optimizer"], None)}
    if settings["model_or_filename"] is None:
        fields = dataclasses.fields(Encoder)
        named = model_fields(settings["model.model_name"]) if settings["model.model_name"] else {}
        known |= {f"model.transformer.{field.name}": field.default for field in fields}
        known |= flatten({"model": named})
    return {key: known.get(key) if value is None else value for key, value in settings.items()}


def table(runs: Path) -> str:
    """Returns the text of configs/README.md."""
    groups: dict[str, list[Path]] = {}
    for folder in sorted(path.parent for path in runs.glob("*/run.json")):
        groups.setdefault(re.sub(r"_seed\d+$", "", folder.name), []).append(folder)
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row(folders) for folders in groups.values())]
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    commands = "\n".join(read(folders[0])["command"] for folders in groups.values())
    runs_read = [read(folder) for folders in groups.values() for folder in folders]
    machines = "\n".join(sorted({f"- {machine.line(run['machine'])}" for run in runs_read}))
    return f"""{HEAD}{rows}
The commands, in the order of the rows; words in capitals stand for folders, and `--workdir` and,
for more seeds, `--config.seed` come after them:

```sh
{commands}
```

Hardware:

{machines}
"""


def row(folders: list[Path]) -> tuple[str, ...]:
    """Returns the cells of one experiment: one run, or several that differ in the seed."""
    runs = [read(folder) for folder in folders]
    first, logs = runs[0], [read_metrics(folder / "metrics.jsonl") for folder in folders]
    steps = max(line["step"] for line in logs[0])
    links = " ".join(
        f"[{run['seed']}](../benchmarks/results/recipes/{folder.name}/metrics.jsonl)"
        for run, folder in zip(runs, folders, strict=True)
    )
    recipe = re.findall(r"--config=(\S+)", first["command"])[0]
    return (
        f"`{recipe}`{first['note'] and ', ' + first['note']}",
        first["data"],
        score(logs, first["classes"]),
        first["reported"],
        f"{steps * first['batch'] / first['train_examples']:.3g}",
        f"{statistics.mean(map(hours, logs, runs)):.2g}",
        f"{first['machine']['cores']} cores of {first['machine']['cpu']}",
        links,
    )


def read(folder: Path) -> dict[str, Any]:
    """Returns how a recorded run was made."""
    return json.loads((folder / "run.json").read_text())


def score(logs: Iterable[list[dict[str, Any]]], classes: int) -> str:
    """Returns the last test scores of the logs in words: accuracy, macro F1 and loss.

    Of 100 classes and more also whether the right one is among the five most probable.
    """
    last = [[line for line in log if "test_accuracy" in line][-1] for log in logs]
    parts = [percent([line["test_accuracy"] for line in last])]
    if classes >= MANY_CLASSES:
        parts.append(f"top-5 {percent([line['test_top5_accuracy'] for line in last])}")
    if all("test_macro_f1" in line for line in last):
        parts.append(f"F1 {percent([line['test_macro_f1'] for line in last])}")
    parts.append(f"loss {statistics.mean(line['test_loss'] for line in last):.3f}")
    return ", ".join(parts)


def percent(shares: list[float]) -> str:
    """Returns the mean of the shares, and with several their standard deviation."""
    mean, spread = mean_and_spread(shares)
    around = "" if spread is None else f" ± {100 * spread:.2f}"
    return f"{100 * mean:.2f}{around} %"


def hours(log: list[dict[str, Any]], run: dict[str, Any]) -> float:
    """Returns the hours of all steps: between two lines of a log, as many images at their rate."""
    total, before = 0.0, 0
    for line in log:
        rate = line.get(TIMING, {}).get("images_per_second")
        if rate:
            total += (line["step"] - before) * run["batch"] / rate
        before = line["step"]
    return total / 3600


if __name__ == "__main__":
    main()
