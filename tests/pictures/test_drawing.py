"""Confusion, examples, positions, filters and the page: what is in them; all are drawn."""

import base64
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise
from vit_jax import models
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import ArraySource
from vit_jax.models.posemb import sincos2d
from vit_jax.pictures import attention, confusion, curves, positions
from vit_jax.pictures.album import Album
from vit_jax.pictures.confusion import draw_confusion
from vit_jax.pictures.curves import draw_curves, moving_mean
from vit_jax.pictures.examples import draw_examples, least_sure, pixels_of, worst_mistakes
from vit_jax.pictures.figure import CannotDrawError, save
from vit_jax.pictures.filters import draw_filters, principal_components
from vit_jax.pictures.model import draw_model
from vit_jax.pictures.page import write_page
from vit_jax.pictures.positions import draw_positions, position_similarity, positions_of
from vit_jax.records.scores import Outcomes

PREPROCESS = Preprocess((8, 8))


def size_of(path):
    """Returns (width, height) of a picture, in pixels."""
    with Image.open(path) as picture:
        return picture.size


def fits(figure):
    """Returns whether all that a figure shows lies within its edges, in inches."""
    shown = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return min(shown.x0, shown.y0) >= 0 and shown.x1 <= width and shown.y1 <= height


def outcomes(labels, predicted, classes=4, confidence=None, loss=None):
    count = len(labels)
    return Outcomes(
        np.arange(count),
        np.array(labels, np.int32),
        np.array(predicted, np.int32),
        np.array(confidence or [0.5] * count, np.float32),
        np.array(loss or [1.0] * count, np.float32),
        np.ones(count, bool),
        classes,
        count,
    )


def test_worst_mistakes_are_wrong_ones_by_loss_and_least_sure_ones_by_confidence():
    found = outcomes([0, 1, 2, 3], [0, 2, 2, 1], confidence=[0.3, 0.9, 0.2, 0.6], loss=[9, 3, 8, 4])
    assert worst_mistakes(found).tolist() == [3, 1]
    assert least_sure(found).tolist() == [2, 0, 3, 1]


def test_examples_are_the_images_that_the_places_name(tmp_path):
    images = np.stack([noise(8, 8, seed) for seed in range(4)])
    source = ArraySource(images, np.zeros(4, np.int32), tuple("abcd"))
    np.testing.assert_array_equal(pixels_of(source, np.array([2, 0]), PREPROCESS), images[[2, 0]])
    found = outcomes([0, 1, 2, 3], [1, 1, 1, 1])
    path = tmp_path / "mistakes.png"
    draw_examples(found, worst_mistakes(found), source, tuple("abcd"), PREPROCESS, path, "title")
    sheet = np.asarray(Image.open(path))
    np.testing.assert_array_equal(sheet[34:154, 6:126][7::15, 7::15], images[0])
    right = outcomes([1, 1], [1, 1])
    with pytest.raises(CannotDrawError, match="no mistakes"):
        draw_examples(right, worst_mistakes(right), source, tuple("abcd"), PREPROCESS, path, "x")


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_confusion_is_drawn_for_few_classes_and_many(classes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        confusion, "save", lambda figure, path: drawn.append(figure) or save(figure, path)
    )
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, 500)
    predicted = np.where(draw.random(500) < 0.7, labels, draw.integers(0, classes, 500))
    names = [f"class ${number} of a long name" for number in range(classes)]
    path = tmp_path / "confusion.png"
    draw_confusion(outcomes(labels, predicted, classes), names, path, "title")
    width, height = size_of(path)
    assert 500 < width < 1700
    assert 500 < height < 1700
    assert fits(drawn[0])
    if classes > 100:
        with pytest.raises(CannotDrawError, match="no mistakes"):
            draw_confusion(outcomes(labels, labels, classes), names, path, "title")


def test_names_that_are_not_utf8_are_shown_with_a_mark(tmp_path):
    """As of folders from an old ZIP: each byte of them is half a surrogate pair."""
    names = [os.fsdecode(b"Gr\xfcn"), "Rot"]
    found = outcomes([0, 1, 0], [0, 0, 1], 2)
    draw_confusion(found, names, tmp_path / "confusion.png", names[0])
    source = ArraySource(np.stack([noise(8, 8)] * 3), np.zeros(3, np.int32), tuple(names))
    path = tmp_path / "sure.png"
    draw_examples(found, least_sure(found), source, names, PREPROCESS, path, names[0])
    album = Album(tmp_path)
    file = write_page(album, names[0], [("Classes", [["class", "images"], [names[0], "2"]])])
    assert "<h1>Gr?n</h1>" in file.read_text("utf-8")
    assert "<td>Gr?n</td>" in file.read_text("utf-8")


def test_similarity_is_the_cosine_of_each_two_patches(tmp_path):
    table = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    found = position_similarity(table, (2, 3))
    a, b = table[1 * 3 + 2], table[0 * 3 + 1]
    assert found[1, 2, 0, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    for grid in ((2, 3), (20, 18), (1, 5)):
        draw_positions(np.ones((grid[0] * grid[1], 4), np.float32), grid, tmp_path / "p.png", "x")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "learned"),
        ({"pool": "mean"}, "learned"),
        ({"pool": "distilled", "num_registers": 2}, "learned"),
        ({"positions": "sincos2d"}, "fixed"),
        ({"positions": "none"}, None),
    ],
)
def test_positions_are_those_of_the_patches(fields, kind):
    model, variables = vit(**fields)
    if kind is None:
        with pytest.raises(CannotDrawError, match="no position embeddings"):
            positions_of(model, variables["params"], (2, 2))
        return
    table, grid = positions_of(model, variables["params"], (2, 2))
    if kind == "fixed":
        expected = sincos2d((2, 2), 16)
    else:
        params = variables["params"]["Transformer"]["posembed_input"]["pos_embedding"]
        expected = params[0, -4:]
    np.testing.assert_array_equal(table, expected)
    assert grid == (2, 2)


def vit(**fields):
    transformer = {"num_layers": 1, "mlp_dim": 8, "num_heads": 2}
    given = {"patches": {"size": (4, 4)}, "transformer": transformer, "hidden_size": 16, **fields}
    model = models.VisionTransformer(5, **given)
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_principal_components_are_found_whatever_noise_is_added():
    draw = np.random.default_rng(0)
    directions = np.linalg.qr(draw.normal(size=(4 * 4 * 3, 2)))[0].T
    filters = draw.normal(size=(200, 2)) * [10, 5] @ directions + draw.normal(0, 0.01, (200, 48))
    kernel = filters.T.reshape(4, 4, 3, 200).astype(np.float32)
    found, shares = principal_components(kernel, 3)
    assert found.shape == (3, 4, 4, 3)
    for one, direction in zip(found, directions, strict=False):
        assert abs(one.ravel() @ direction) > 0.99
    assert shares[0] > shares[1] > 100 * shares[2]


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("embedding", (4, 4, 3, 16)),
        ("conv_root", (7, 7, 3, 64)),
        ("stem", (4, 4, 3, 8)),
    ],
)
def test_filters_of_patches_and_of_convolutions_are_drawn(path, shape, tmp_path):
    kernel = np.random.default_rng(0).normal(size=shape)
    draw_filters({path: {"kernel": kernel}}, tmp_path / "filters.png", "title")
    assert size_of(tmp_path / "filters.png")[0] > 700
    with pytest.raises(CannotDrawError, match="no filters of three colours"):
        draw_filters({"embedding": {"kernel": kernel[:, :, :1]}}, tmp_path / "f.png", "title")


@pytest.mark.parametrize(
    ("make", "drawn", "missing"),
    [
        (lambda: vit(stem="conv", patches=None), {"distances.png", "filters.png"}, set()),
        (lambda: vit(pool="sequence"), {"attention.png", "positions.png"}, set()),
        (lambda: _mixer(), {"filters.png"}, {"Attention", "Position embeddings"}),
    ],
)
def test_every_kind_of_model_draws_what_it_has(make, drawn, missing, tmp_path):
    album = Album(tmp_path)
    model, variables = make()
    draw_model(album, model, variables, PREPROCESS, noise(8, 8)[None], "name")
    assert drawn <= {picture.file for picture in album.pictures}
    assert missing <= {heading for heading, _ in album.missing}
    assert len(album.pictures) + len(album.missing) == 4


def _mixer():
    model = models.MlpMixer({"size": (4, 4)}, 5, 1, 8, 8, 8)
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_a_picture_that_fails_is_one_line_and_leaves_no_old_one(tmp_path, caplog):
    def fail(path):
        raise ValueError("two\nlines")

    (tmp_path / "a.png").write_bytes(b"of an earlier run")
    album = Album(tmp_path)
    album.draw("a.png", "A", "says", fail)
    assert album.missing == [("A", "ValueError: two lines")]
    assert not (tmp_path / "a.png").exists()
    assert "a.png could not be drawn: ValueError: two lines" in caplog.text


def test_the_page_holds_all_it_shows(tmp_path):
    album = Album(tmp_path)
    album.draw("a.png", "A <b>", "says & means", lambda p: Image.new("RGB", (3, 2)).save(p))
    album.leave_out("B", "there is none")
    file = write_page(album, "cats & dogs", [("Scores", [["score", "value"], ["x < y", "1.00 %"]])])
    text = file.read_text("utf-8")
    for shown in ("A &lt;b&gt;", "says &amp; means", "cats &amp; dogs", "x &lt; y", "1.00 %"):
        assert shown in text
    assert "B: there is none" in text
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(data) == (tmp_path / "a.png").read_bytes()
    assert not re.search(r"https?:|<script|<link|src=\"(?!data:)", text)


def test_moving_mean_keeps_slopes_in_place():
    line = [float(i) for i in range(100)]
    assert moving_mean(line) == pytest.approx(line)
    assert moving_mean([0.0, 9.0, 0.0, 9.0, 0.0], share=0.5)[1:4] == [3.0, 6.0, 3.0]
    assert moving_mean([5.0]) == [5.0]


def test_titles_count_well_and_say_what_colours_mean(tmp_path, monkeypatch):
    titles = []

    def note(figure, path):
        titles.extend([figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)])
        path.touch()

    for module in (attention, positions):
        monkeypatch.setattr(module, "save", note)
    for count in (1, 2):
        images = np.stack([noise(8, 8)] * count)
        draw_model(Album(tmp_path), *vit(), PREPROCESS, images, "name")
    draw_positions(np.ones((400, 4), np.float32), (20, 20), tmp_path / "p.png", "x")
    said = "\n".join(titles)
    assert "over 1 image\n" in said
    assert "over 2 images\n" in said
    assert "each map: its least weight dark, its largest bright" in said
    assert "; of every 2 rows and columns one is shown" in said


def test_curves_are_drawn_from_whatever_lines_there_are(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        curves, "save", lambda figure, path: drawn.append(figure) or save(figure, path)
    )
    timing = {"timing": {"images_per_second": 10.0}}
    for name, records, shown in (
        ("none", [], []),
        (
            "train",
            [{"step": 1, "loss": 1.0, "accuracy": 0.5, **timing}],
            ["Loss", "Accuracy", "Throughput"],
        ),
        ("recall", [{"step": 1, "test_text_to_image_recall_1": 0.5}], ["Test scores"]),
        ("both", [{"step": s, "loss": 1 / s, "test_loss": 2 / s} for s in range(1, 50)], ["Loss"]),
    ):
        path = tmp_path / "report" / f"{name}.png"
        draw_curves(records, path, name)
        assert path.read_bytes().startswith(b"\x89PNG")
        panels = [axes for axes in drawn[-1].axes if axes.lines]
        assert [axes.get_title() for axes in panels] == shown
        if len(records) == 1:  # which a line alone would not show
            assert all(line.get_marker() == "o" for axes in panels for line in axes.lines)
