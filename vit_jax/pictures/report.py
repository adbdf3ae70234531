"""The report of a run: `report/` in its workdir."""

import json
import logging
from collections.abc import Sequence

import jax

from vit_jax import trees
from vit_jax.experiment import Experiment
from vit_jax.image_text.recall import AT
from vit_jax.image_text.scores import Retrieved
from vit_jax.models.lit import LitModel
from vit_jax.origin import describe_model
from vit_jax.pair_model import image_tower
from vit_jax.pictures.album import Album, Picture
from vit_jax.pictures.confusion import draw_confusion
from vit_jax.pictures.curves import draw_curves
from vit_jax.pictures.examples import (
    draw_examples,
    least_sure,
    pixels_of,
    spread_out,
    worst_mistakes,
)
from vit_jax.pictures.figure import in_one_line
from vit_jax.pictures.model import draw_model
from vit_jax.pictures.page import Table, write_page
from vit_jax.pictures.similarity import draw_pairs
from vit_jax.records.metrics_file import read_metrics
from vit_jax.records.scores import Outcomes, to_json
from vit_jax.workdir import Workdir

logger = logging.getLogger("vit_jax")

_CLASSES_SHOWN = 100


def draw_report(
    place: Workdir,
    experiment: Experiment,
    outcomes: Outcomes | Retrieved | None,
    variables: trees.Tree | None,
) -> None:
    """Draws the pictures of a run and writes `index.html` and `scores.json`, all in `report/`.

    It never fails a run: a picture that cannot be drawn is left out, and the page says why. Several
    processes hold the parameters together, so that one cannot draw the model: `vit_jax visualize`
    does it afterwards.

    Args:
      place: of the run.
      experiment: its data and model.
      outcomes: of its test images; None where it was stopped: its curves alone are drawn then.
      variables: what was evaluated; None where it was stopped.
    """
    try:
        _draw_all(place, experiment, outcomes, variables)
    except Exception as error:  # an image that is gone, a full disk: the run is done all the same
        logger.warning("the report could not be written: %s", in_one_line(error))


def _draw_all(
    place: Workdir,
    experiment: Experiment,
    outcomes: Outcomes | Retrieved | None,
    variables: trees.Tree | None,
) -> None:
    config, album = experiment.config, Album(place.report)
    name = describe_model(experiment.model)
    data = config.dataset.rstrip("/").split("/")[-1]
    title = f"{name}, {config.pp.crop} px, on {data}, seed {config.seed}"
    tables: list[Table] = []
    if place.metrics.exists():
        album.draw(
            "curves.png",
            "Curves",
            "Training values are those of single batches (thin) and their moving mean; test values "
            "are those of the whole split.",
            lambda path: draw_curves(read_metrics(place.metrics), path, title, config.loss),
        )
    if outcomes is not None:
        tables = _tables(place, experiment, outcomes)
    if isinstance(outcomes, Outcomes) and config.report:
        _draw_outcomes(album, experiment, outcomes, title)
    if outcomes is not None and config.report:
        _draw_own(album, experiment, outcomes, variables, name)
    _add_contact_sheet(album)
    write_page(album, title, tables)


def _tables(place: Workdir, experiment: Experiment, outcomes: Outcomes | Retrieved) -> list[Table]:
    """Writes the scores, and returns them as tables."""
    is_retrieval = isinstance(outcomes, Retrieved)
    found = outcomes.summary() if is_retrieval else to_json(outcomes, experiment.class_names)
    place.report.mkdir(exist_ok=True)
    (place.report / "scores.json").write_text(json.dumps(found) + "\n")
    if is_retrieval:
        return [retrieval_table(found)]
    return [_scores_table(found), _class_table(found, experiment.shown_names)]


def _draw_outcomes(album: Album, experiment: Experiment, outcomes: Outcomes, title: str) -> None:
    names, source = experiment.shown_names, experiment.test.source
    few = outcomes.num_classes <= _CLASSES_SHOWN
    album.draw(
        "confusion.png",
        "Confusion",
        "Rows are the true classes, columns the predicted ones; colours are shares of the row."
        if few
        else "The pairs of classes that are most often confused.",
        lambda path: draw_confusion(outcomes, names, path, title),
    )
    for file, heading, says, choose in (
        ("mistakes.png", "Worst mistakes", "Wrong answers with the largest loss.", worst_mistakes),
        ("least_sure.png", "Least sure", "Answers with the least confidence.", least_sure),
    ):
        album.draw(
            file,
            heading,
            f"{says} Below each image its class, and the answer with its probability.",
            lambda path, choose=choose, heading=heading: draw_examples(
                outcomes,
                choose(outcomes),
                source,
                names,
                experiment.preprocess,
                path,
                f"{heading}: {title}",
            ),
        )


def _draw_own(
    album: Album,
    experiment: Experiment,
    outcomes: Outcomes | Retrieved,
    variables: trees.Tree | None,
    name: str,
) -> None:
    """Draws the model, looking at images from all over the split."""
    if jax.process_count() > 1:
        reason = "the parameters lie in several processes; vit_jax visualize WORKDIR draws it"
        album.leave_out("The model", reason)
        return
    whole = host = jax.device_get(variables)
    model = experiment.model
    if isinstance(model, LitModel):
        album.draw(
            "similarity.png",
            "Images and texts",
            "Cosines of test images (rows) with texts; a star marks the text nearest to an image.",
            lambda path: draw_pairs(experiment, outcomes.index, whole, path, name),
        )
        model, host = image_tower(model, whole)
    preprocess = experiment.preprocess
    images = pixels_of(experiment.test.source, spread_out(outcomes.index), preprocess)
    draw_model(album, model, host, preprocess, images, name)


def _add_contact_sheet(album: Album) -> None:
    """Shows the first batch, which was drawn when it came."""
    if (album.folder / "augmented.png").exists():
        says = "The first batch as the model saw it, each image with its label."
        album.pictures.append(Picture("augmented.png", "Training images", says))


def _scores_table(found: dict) -> Table:
    shown = (
        ("top-1 accuracy", "accuracy"),
        ("top-5 accuracy", "top5_accuracy"),
        ("macro F1", "macro_f1"),
        ("weighted F1", "weighted_f1"),
        ("expected calibration error", "ece"),
    )
    rows = [[label, f"{100 * found[name]:.2f} %"] for label, name in shown]
    loss = [["loss", f"{found['loss']:.4f} nats"], ["images", f"{found['images']:,}"]]
    return "Test scores", [["score", "value"], *rows, *loss]


def retrieval_table(found: dict) -> Table:
    """Returns the scores of retrieval as a table."""
    rows = [
        [f"{way.replace('_', ' ')}", *(f"{100 * found[f'{way}_recall_{k}']:.2f} %" for k in AT)]
        for way in ("image_to_text", "text_to_image")
    ]
    return "Retrieval", [["way", *(f"recall@{k}" for k in AT)], *rows]


def _class_table(found: dict, names: Sequence[str]) -> Table:
    """Shows every class, or of many those with the least F1."""
    heading = "Classes"
    classes = [{**one, "name": name} for one, name in zip(found["classes"], names, strict=True)]
    if len(classes) > _CLASSES_SHOWN:
        seen = [one for one in classes if one["f1"] is not None]
        classes = sorted(seen, key=lambda one: one["f1"])[:_CLASSES_SHOWN]
        heading = f"The {len(classes)} classes with the least F1, of {len(found['classes'])}"
    rows = [
        [one["name"], f"{one['images']:,}", *map(_percent, _of(one, ("precision", "recall", "f1")))]
        for one in classes
    ]
    return heading, [["class", "images", "precision", "recall", "F1"], *rows]


def _of(one: dict, names: Sequence[str]) -> list[float | None]:
    return [one[name] for name in names]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
