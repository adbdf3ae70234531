"""Retrieval over images with captions: exact, on any devices; what is refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import runs
from tests.data import caption_sets
from tests.image_text import lit_files
from tests.image_text.test_recall import plain_ranks
from vit_jax.data.decoding import decode_pixels
from vit_jax.data.pair_datasets import open_pairs
from vit_jax.image_text import opening, retrieval
from vit_jax.main import main

pytest.importorskip("sentencepiece", reason="the extra lit")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("retrieval")
    lit_files.write(root, "text_transformer")
    caption_sets.text_folder(root / "images", 11, "test", per_image=2)
    (root / "images" / "test" / "003.txt").write_text("one caption alone\n")
    return root


@pytest.mark.parametrize(("batch", "devices"), [(1, 1), (4, 8), (512, 8)])
def test_ranks_are_those_of_numpy(place, monkeypatch, batch, devices):
    if devices == 1:
        monkeypatch.setattr(retrieval, "make_mesh", runs.one_device_mesh)
    lit = opening.open_image_text(place / "tiny.npz")
    source = open_pairs(str(place / "images"), "test")
    found, clipped = retrieval.evaluate_retrieval(lit, source, batch)
    texts = [caption for i in range(len(source)) for caption in source.captions(i)]
    owner = np.repeat(np.arange(11), [len(source.captions(i)) for i in range(11)])
    images = [
        lit.preprocess.pixels(decode_pixels(source[i][0], str(i))) for i in range(len(source))
    ]
    embed = jax.jit(lit.model.apply)
    scaled = np.stack(images) / np.float32(127.5) - 1
    zimg, ztxt, _ = embed(lit.variables, scaled, lit.tokenizer(texts).tokens)
    of_images, of_texts = plain_ranks(np.asarray(zimg), np.asarray(ztxt), owner)
    assert found.ranks.texts_of_images.tolist() == of_images
    assert found.ranks.images_of_texts.tolist() == of_texts
    assert len(of_texts) == 21
    assert (clipped, found.skipped) == (lit.tokenizer(texts).clipped, 0)


def test_the_command_line(place, capsys):
    command = [
        *("retrieve", f"--checkpoint={place / 'tiny.npz'}"),
        f"--dataset={place / 'images'}",
    ]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["texts"]) == (11, 21)
    assert 0 <= found["image_to_text_recall_1"] <= found["image_to_text_recall_10"] <= 1
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("image → text  recall @1 ")
    assert "11 images, 21 texts" in printed


def test_a_missing_caption_is_one_line(place, tmp_path, capsys):
    caption_sets.text_folder(tmp_path / "images", 3, "test")
    (tmp_path / "images" / "test" / "001.txt").unlink()
    command = ["retrieve", f"--checkpoint={place / 'tiny.npz'}", f"--dataset={tmp_path / 'images'}"]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert "001.png: has no caption" in error
    assert error.count("\n") == 1
