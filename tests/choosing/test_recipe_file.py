"""The written recipe: it loads, says what was chosen, and knows whether it was edited."""

import subprocess
import sys

import pytest

from vit_jax.choosing.recipe_file import NAME, is_as_chosen, recipe_text, write_recipe
from vit_jax.choosing.rules import Choice
from vit_jax.config import default_config, differences
from vit_jax.recipes import load_config, merge
from vit_jax.workdir import Workdir

CHOICES = [
    Choice("dataset", "/photos", "80 images"),
    Choice("pp.test", "test", "these"),
    Choice("model_or_filename", "vit_ti16", "as you said"),
    Choice("pp.crop", 224, "a reason " * 20),
    Choice("model.transformer.remat", "nothing_saveable", "as you said"),
    Choice("augment.crop_area", (0.05, 1.0), "crops"),
    Choice("total_steps", 100, "steps"),
    Choice("report", True, "a page"),
]


def written(tmp_path, choices):
    return write_recipe(Workdir(tmp_path / "run"), choices, "80 images; 1 cpu")


def test_it_loads_as_what_was_chosen(tmp_path):
    wanted = {choice.setting: choice.value for choice in CHOICES}
    loaded = load_config(written(tmp_path, CHOICES))
    assert differences(loaded, merge(default_config(), wanted, "test")) == {}


def test_it_is_formatted_as_the_house_formats(tmp_path):
    file = written(tmp_path, CHOICES)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "--line-length=100", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    if "No module named ruff" in done.stderr:
        pytest.skip("needs ruff, of the extra `dev`")
    assert done.returncode == 0, done.stdout
    lines = [line for line in file.read_text().splitlines() if "vit_jax train" not in line]
    assert max(map(len, lines)) <= 100
    assert not (file.parent / "__pycache__").exists()


@pytest.mark.parametrize(
    "name", ['/a "b"', "/a\\", "/a\nb", "/ünï/文", '/"""', "/\udcff", "/a{b}", "/🐈", "/a#"]
)
def test_any_name_of_a_folder_may_stand_in_it(tmp_path, name):
    choices = [Choice("dataset", name, "x"), *CHOICES[1:]]
    assert load_config(written(tmp_path, choices)).dataset == name


def test_it_knows_whether_it_was_edited():
    text = recipe_text(CHOICES, "runs/photos", "80 images")
    assert is_as_chosen(text)
    assert not is_as_chosen(text.replace("224", "384"))
    assert not is_as_chosen(text + "\n")
    assert not is_as_chosen("")
    assert "vit_jax train --config=runs/photos/recipe.py --workdir=runs/photos_again" in text
    spaced = recipe_text(CHOICES, "runs/Fotos ü", "80 images")
    assert "--config='runs/Fotos ü/recipe.py' --workdir='runs/Fotos ü_again'" in spaced
    assert NAME in text
