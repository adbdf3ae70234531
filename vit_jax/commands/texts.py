"""Commands about images and texts: zeroshot, retrieve."""

import argparse
import json
from typing import Any

from vit_jax.commands.command import Command
from vit_jax.commands.job import add_job, join_job
from vit_jax.errors import ConfigError

# Every other import waits for its command: help and usage errors must be instant.


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="SOURCE",
        help="workdir of a run, file of LiT weights, URL, or name of a released LiT model",
    )
    parser.add_argument(
        "--dataset", help="name or folder of images (default: that of the run in --checkpoint)"
    )
    parser.add_argument("--split", help="part of the dataset (default: test, or the run's own)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="where TFDS has prepared datasets")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="of the tokenizer (default: what came with the weights)",
    )
    parser.add_argument(
        "--crop", action="store_true", help="cut the centre out of images; else all is resized"
    )
    parser.add_argument("--batch", type=int, default=512, help="images at once (default 512)")
    parser.add_argument("--json", action="store_true", help="all scores as one JSON object")
    add_job(parser)


def _zeroshot_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes, one a line, in the dataset's order (default: its own names)",
    )
    parser.add_argument(
        "--templates",
        metavar="FILE",
        help="texts with {} in the place of a name, one a line (default: the run's own, or a few)",
    )


def _zeroshot(options: argparse.Namespace, _: list[str]) -> int:
    from vit_jax.text.prompts import TEMPLATES, read_classes, read_templates

    classes = read_classes(options.classes) if options.classes else None
    _begin(options)
    from vit_jax.data.datasets import open_dataset
    from vit_jax.image_text.zeroshot import evaluate_zero_shot
    from vit_jax.records import scores
    from vit_jax.runtime.ending import alone_on_failure
    from vit_jax.runtime.processes import is_first

    with alone_on_failure():
        lit, dataset, split = _open(options)
        file = options.templates or (lit.config and lit.config.templates)
        templates = read_templates(file) if file else TEMPLATES
        source = open_dataset(dataset, split, None, options.data_dir)
        found = evaluate_zero_shot(lit, source, classes, templates, options.batch)
    if not is_first():
        return 0
    told = {"checkpoint": lit.where, "prompts": found.prompts, "clipped": found.clipped}
    if options.json:
        print(json.dumps({**told, **scores.to_json(found.outcomes, found.class_names)}))
        return 0
    print(scores.score_line(found.outcomes.summary(), found.outcomes.scored))
    print(f"{len(found.class_names)} classes told by {found.prompts:,} texts{_lost(found.clipped)}")
    print(f"checkpoint  {lit.where}")
    return 0


def _retrieve(options: argparse.Namespace, _: list[str]) -> int:
    _begin(options)
    from vit_jax.data.pair_datasets import open_pairs
    from vit_jax.image_text import recall
    from vit_jax.image_text.retrieval import evaluate_retrieval
    from vit_jax.runtime.ending import alone_on_failure
    from vit_jax.runtime.processes import is_first

    with alone_on_failure():
        lit, dataset, split = _open(options)
        pairs = open_pairs(dataset, split, options.data_dir)
        found, clipped = evaluate_retrieval(lit, pairs, options.batch)
    if not is_first():
        return 0
    scores = found.ranks.summary()
    images, texts = len(found.ranks.texts_of_images), len(found.ranks.images_of_texts)
    told = {"checkpoint": lit.where, "images": images, "texts": texts, "clipped": clipped}
    if options.json:
        print(json.dumps({**told, **scores, "skipped": found.skipped}))
        return 0
    print(recall.describe(scores))
    print(f"{images:,} images, {texts:,} texts{_lost(clipped)}")
    print(f"checkpoint  {lit.where}")
    return 0


def _begin(options: argparse.Namespace) -> None:
    """Checks what can be checked at once, and joins the other processes."""
    from vit_jax.runtime import compile_cache
    from vit_jax.workdir import is_run

    if options.batch < 1:
        raise ConfigError(f"--batch={options.batch}: must be at least 1")
    if options.dataset is None and not is_run(options.checkpoint):
        raise ConfigError("--dataset: is needed, unless --checkpoint is a run, which has one")
    compile_cache.enable()
    join_job(options)


def _open(options: argparse.Namespace) -> tuple[Any, str, str]:
    """Returns the model, and which split of which dataset is meant."""
    from vit_jax.image_text.opening import open_image_text

    lit = open_image_text(options.checkpoint, options.vocabulary, crop=options.crop)
    own: Any = lit.config
    if options.dataset is not None:
        return lit, options.dataset, options.split or "test"
    return lit, own.dataset, options.split or own.pp.test


def _lost(clipped: int) -> str:
    return f", {clipped:,} of them too long and clipped" if clipped else ""


ZEROSHOT = Command(
    "zeroshot",
    "score an image-text model on classes that are told by their names",
    "vit_jax zeroshot --checkpoint=LiT-B16B_2 --dataset=photos/ --classes=names.txt",
    _zeroshot_arguments,
    _zeroshot,
)

RETRIEVE = Command(
    "retrieve",
    "score how well images and texts find each other",
    "vit_jax retrieve --checkpoint=LiT-B16B_2 --dataset=coco_captions --split=val",
    _arguments,
    _retrieve,
)
