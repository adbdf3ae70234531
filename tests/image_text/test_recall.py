"""Ranks and recall against a slow and plain reference, ties and several texts included."""

import numpy as np
import pytest

from vit_jax.errors import DataError
from vit_jax.image_text import recall


def plain_ranks(images, texts, owner):
    """The definition, by sorting: stable, so of equals the first comes first."""
    similar = (images.astype(np.float64) @ texts.astype(np.float64).T).astype(np.float32)
    of_images = [
        min(list(np.argsort(-row, kind="stable")).index(j) for j in np.flatnonzero(owner == i))
        for i, row in enumerate(similar)
    ]
    of_texts = [
        list(np.argsort(-column, kind="stable")).index(owner[j])
        for j, column in enumerate(similar.T)
    ]
    return of_images, of_texts


def vectors(rng, count, width=6):
    found = rng.normal(size=(count, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("at_once", [1, 100, 2**24])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_sorting(monkeypatch, at_once, seed):
    monkeypatch.setattr(recall, "_NUMBERS", at_once)
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(12), rng.integers(0, 12, size=17)])
    rng.shuffle(owner)
    images, texts = vectors(rng, 12), vectors(rng, 29)
    texts[3], texts[20], images[5] = texts[9], texts[9], images[2]  # equals
    found = recall.ranks_of(images, texts, owner)
    of_images, of_texts = plain_ranks(images, texts, owner)
    assert found.texts_of_images.tolist() == of_images
    assert found.images_of_texts.tolist() == of_texts
    for k in recall.AT:
        both = found.summary()
        assert both[f"image_to_text_recall_{k}"] == np.mean(np.array(of_images) < k)
        assert both[f"text_to_image_recall_{k}"] == np.mean(np.array(of_texts) < k)


def test_pairs_that_are_alike_are_found_first():
    pairs = vectors(np.random.default_rng(0), 8)
    found = recall.ranks_of(pairs, np.repeat(pairs, 2, axis=0), np.repeat(np.arange(8), 2))
    assert set(found.summary().values()) == {1.0}
    assert "image → text  recall @1 100.00 %  @5 100.00 %" in recall.describe(found.summary())


def test_an_image_without_a_text_is_one_line():
    pairs = vectors(np.random.default_rng(0), 3)
    with pytest.raises(DataError, match="image 1 has no text to be found by"):
        recall.ranks_of(pairs, pairs, np.array([0, 0, 2]))
