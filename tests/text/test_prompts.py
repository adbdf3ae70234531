"""Prompts: names in templates, their mean, what is refused."""

import numpy as np
import pytest

from vit_jax.errors import ConfigError, DataError
from vit_jax.text import prompts


def test_every_class_in_every_template():
    found = prompts.prompts_of(["cat", "{dog}"], ["a {}", "{} and {}"])
    assert found == ["a cat", "cat and cat", "a {dog}", "{dog} and {dog}"]
    assert len(prompts.prompts_of(["cat"])) == len(prompts.TEMPLATES)
    prompts.check_templates(prompts.TEMPLATES, "ours")


def test_the_mean_of_a_class_has_length_one():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = prompts.class_embeddings(vectors, 2)
    for i in range(2):
        mean = vectors[3 * i : 3 * i + 3].astype(np.float64).mean(0)
        np.testing.assert_allclose(found[i], mean / np.linalg.norm(mean), atol=1e-7)
    opposite = np.concatenate([vectors[:1], -vectors[:1]])
    assert np.isfinite(prompts.class_embeddings(opposite, 1)).all()


def test_files(tmp_path):
    (tmp_path / "classes.txt").write_text("\ufeffcat \n\n  猫\nhot dog\n", "utf-8")
    (tmp_path / "templates.txt").write_text("a photo of a {}\r\n{}!\r\n")
    assert prompts.read_classes(tmp_path / "classes.txt") == ("cat", "猫", "hot dog")
    assert prompts.read_templates(tmp_path / "templates.txt") == ("a photo of a {}", "{}!")
    assert prompts.spoken("tabby_cat") == "tabby cat"


def test_what_is_refused_is_one_line(tmp_path):
    (tmp_path / "classes.txt").write_text(" \n")
    (tmp_path / "templates.txt").write_text("a photo of it\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    cases = [
        (prompts.read_classes, "classes.txt", DataError, "classes.txt: holds no names of classes"),
        (prompts.read_classes, "clases.txt", DataError, "did you mean 'classes.txt'?"),
        (prompts.read_classes, "bytes.txt", DataError, "it is no text in UTF-8"),
        (prompts.read_templates, "templates.txt", ConfigError, "'a photo of it' has no {} in the"),
    ]
    for read, name, kind, message in cases:
        with pytest.raises(kind) as caught:
            read(tmp_path / name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no templates"):
        prompts.check_templates([], "--templates")
