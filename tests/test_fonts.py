"""Letters that DejaVu Sans lacks: another font of the machine draws them, or one line says so."""

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from vit_jax import fonts
from vit_jax.contact_sheet import draw_contact_sheet
from vit_jax.pictures.figure import new_figure, save

WATCH = "\N{WATCH}"  # in STIX, which matplotlib brings as well; not in DejaVu Sans
CAT = "\N{CJK UNIFIED IDEOGRAPH-732B}"  # in neither
STIX = Path(mpl.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"


@pytest.fixture
def machine(monkeypatch):
    """Sets which fonts the machine has."""

    def forget():
        fonts._fallbacks.cache_clear()
        fonts._say_once.cache_clear()

    def has(*paths):
        monkeypatch.setattr(fonts, "installed_fonts", lambda: list(paths))
        forget()

    yield has
    forget()


def test_a_machines_font_is_taken_for_what_the_default_lacks(machine, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    machine(broken, STIX)
    assert fonts.fallbacks(["cat", "Кошка", "×…"]) == []
    assert fonts.fallbacks(["cat", WATCH]) == [STIX]
    assert fonts.font_of(f"{WATCH} 70%", [STIX]) == STIX
    assert fonts.font_of("Кошка", [STIX]) == fonts.default_font()


def test_letters_that_no_font_has_are_said_once(machine, caplog):
    machine(STIX)
    with caplog.at_level(logging.WARNING, "vit_jax"):
        assert fonts.fallbacks([f"{CAT}\n"]) == []
        assert fonts.fallbacks(["another picture", CAT]) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"no font on this machine has {CAT}: pictures show boxes there; install one of that script "
        "(Noto Sans CJK has Chinese, Japanese and Korean)"
    ]


@pytest.mark.parametrize("of", ["figure", "contact sheet"])
def test_pictures_show_the_letters_of_another_font(machine, tmp_path, of):
    """And no box: without the font the picture is another, and nothing is raised."""
    draw = {"figure": _figure, "contact sheet": _sheet}[of]
    machine()
    boxes = draw(tmp_path / "boxes.png")
    machine(STIX)
    letters = draw(tmp_path / "letters.png")
    assert boxes.shape == letters.shape
    assert (boxes != letters).any()


def test_the_machines_plain_fonts_come_first(monkeypatch):
    files = ["/b/NotoSansCJK-Bold.ttc", "/b/NotoSansCJK-Regular.ttc", "/a/Foo-Italic.otf"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    assert [path.stem for path in fonts.installed_fonts()] == [
        *("NotoSansCJK-Regular", "Foo-Italic", "NotoSansCJK-Bold"),
    ]


def _figure(path):
    figure = new_figure(3, 2, "a figure")
    axes = figure.subplots()
    axes.set_yticks([0, 1], [WATCH, "cat"])
    save(figure, path)
    return np.asarray(Image.open(path))


def _sheet(path):
    draw_contact_sheet(pictures.noise(60, 60)[None], [WATCH], path)
    return np.asarray(Image.open(path))
