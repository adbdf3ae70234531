"""The contact sheet: what is on it, and that a run draws it of what its first step saw."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import runs
from tests.data import pictures
from vit_jax.contact_sheet import caption, draw_contact_sheet
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.preprocess import Preprocess
from vit_jax.records.loggers import Console
from vit_jax.step import StepSettings, first_inputs
from vit_jax.train import train

NAMES = ("cat", "dog", "emu")


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([0.0, 1.0, 0.0], "dog"),
        ([0.3, 0.7, 0.0], "dog 70%, cat 30%"),
        ([0.0, 0.004, 0.996], "emu"),
    ],
)
def test_captions_name_the_classes_and_their_shares(shares, text):
    assert caption(np.array(shares, np.float32), NAMES) == text


def test_a_small_image_is_enlarged_by_a_whole_factor(tmp_path):
    image = pictures.noise(8, 8)
    draw_contact_sheet(image[None], ["7"], tmp_path / "report" / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "report" / "sheet.png"))
    np.testing.assert_array_equal(sheet[6:126, 6:126][7::15, 7::15], image)
    assert (sheet[126:, 6:30] < 128).any()  # the caption


def test_images_stand_in_rows_and_long_captions_keep_to_their_column(tmp_path):
    colours = np.arange(10, dtype=np.uint8) * 20
    images = np.broadcast_to(colours[:, None, None, None], (10, 300, 200, 3)).copy()
    draw_contact_sheet(images, ["W" * 99] * 10, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 8 * 166 + 6
    line = 240 + 13 + 6 + 6
    for number, colour in enumerate(colours):
        row, column = divmod(number, 8)
        assert (sheet[6 + row * line + 120, 6 + column * 166 + 80] == colour).all()
    assert (sheet[:, 8 * 166 :][6:] == 255).all()


def test_the_sheet_shows_what_the_step_sees():
    """Of all augmentations at once, and of every second row where two parts are accumulated."""
    plan = Augmentation(flip=True, cutmix=1.0)
    settings = StepSettings(10, Preprocess((8, 8)), plan, seed=3, accum_steps=2)
    images = np.stack([pictures.noise(8, 8, i) for i in range(12)])
    batch = runs.training_batch(images, np.arange(12) % 10)
    seen, targets = first_inputs(settings, batch, 4)
    assert (seen.shape, targets.shape) == ((4, 8, 8, 3), (4, 10))
    shown = np.asarray(settings.preprocess.denormalize(seen))
    for number in range(1, 4):
        options = np.concatenate([images[2 * number - 2 : 2 * number + 1 : 2]] * 2)
        options[2:] = options[2:, :, ::-1]
        assert (shown[number][None] == options).all(-1).any(0).all()
        assert targets[number, [2 * number - 2, 2 * number]].sum() == pytest.approx(1)
    other = first_inputs(dataclasses.replace(settings, seed=4), batch, 4)
    assert not np.array_equal(other[0], seen)


def test_denormalize_undoes_normalisation():
    preprocess = Preprocess((8, 8), mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 1.0))
    images = jnp.asarray(pictures.noise(8, 8)[None])
    np.testing.assert_array_equal(preprocess.denormalize(preprocess.normalize(images)), images)
    assert preprocess.denormalize(jnp.full((1, 1, 1, 3), 9.0)).max() == 255


def test_a_run_draws_it(tmp_path):
    """With something of everything: device, host, repeats, balance."""
    augment = {"crop_area": (0.3, 1.0), "flip": True, "repeats": 2, "randaugment": (2, 10)}
    augment |= {"rotate": 0.0, "shift": 0.0, "mixup": 0.0}  # less to compile
    config = runs.tiny_config(total_steps=4, augment=augment, sampling="balanced")
    result = train(config, str(tmp_path), Console(quiet=True))
    assert result.step == 4
    sheet = tmp_path / "report" / "augmented.png"
    image = np.asarray(Image.open(sheet))
    assert image.shape == (6 * (120 + 25) + 6, 8 * 126 + 6, 3)
    assert len(np.unique(image[6:126, 6:126].reshape(-1, 3), axis=0)) > 5
