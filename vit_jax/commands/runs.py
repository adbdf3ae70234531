"""Commands about runs: train, evaluate."""

import argparse

from vit_jax.commands.command import Command
from vit_jax.commands.job import add_job, join_job

# Every other import waits for its command: help and usage errors must be instant.


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", required=True, help="recipe.py[:argument], a shipped recipe, or config.json"
    )
    parser.add_argument("--workdir", required=True, help="folder for checkpoints and metrics")
    parser.add_argument(
        "--changed",
        default="",
        metavar="KEY,…",
        help="settings in which this command may differ from the run in the workdir",
    )
    add_job(parser)


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    from vit_jax.recipes import load_config

    config = load_config(options.config, overrides)
    from vit_jax.runtime import compile_cache

    compile_cache.enable()
    join_job(options)
    from vit_jax.runtime.ending import alone_on_failure
    from vit_jax.train import train

    with alone_on_failure():
        changed = [key for key in options.changed.split(",") if key]
        return train(config, options.workdir, changed=changed).exit_code


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="workdir of a run")
    parser.add_argument(
        "--json", action="store_true", help="all scores, also of each class, as one JSON object"
    )
    parser.add_argument(
        "--real", metavar="FILE", help="real.json of ImageNet-ReaL: lists of valid classes"
    )
    add_job(parser)


def _evaluate(options: argparse.Namespace, _: list[str]) -> int:
    import json

    from vit_jax.workdir import find_run

    find_run(options.workdir)  # before all that takes seconds to import
    from vit_jax.evaluate import real_labels
    from vit_jax.pretrained import load_run
    from vit_jax.records import scores
    from vit_jax.runtime import compile_cache
    from vit_jax.runtime.ending import alone_on_failure
    from vit_jax.runtime.processes import is_first
    from vit_jax.tasks import score_run

    compile_cache.enable()
    join_job(options)
    with alone_on_failure():
        trained = load_run(options.workdir)
        valid = real_labels(trained, options.real) if options.real else None
        outcomes = score_run(trained)
    if not is_first():
        return 0
    is_classes = isinstance(outcomes, scores.Outcomes)
    real = scores.real_accuracy(outcomes, valid) if valid is not None and is_classes else None
    checkpoint = f"{trained.workdir.given}/checkpoints/{trained.step}"
    if options.json:
        said = scores.to_json(outcomes, trained.class_names) if is_classes else outcomes.summary()
        found = {"checkpoint": checkpoint, **said}
        if real is not None:
            found |= {"real_accuracy": real[0], "real_images": real[1]}
        print(json.dumps(found))
        return 0
    print(scores.score_line(outcomes.summary(), outcomes.scored))
    if real is not None:
        share = "none" if real[0] is None else f"{100 * real[0]:.2f} %"
        print(f"ReaL accuracy {share}  ({real[1]:,} images with labels)")
    print(f"checkpoint  {checkpoint}")
    return 0


TRAIN = Command(
    "train",
    "train a model; the same command again resumes the run",
    "vit_jax train --config=digits --workdir=runs/digits --config.base_lr=0.001",
    _train_arguments,
    _train,
)

EVALUATE = Command(
    "evaluate",
    "score a trained model on its test split",
    "vit_jax evaluate --workdir=runs/digits",
    _evaluate_arguments,
    _evaluate,
)
