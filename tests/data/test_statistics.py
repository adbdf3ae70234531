"""Mean and deviation of a dataset's colours, and the runs that take them."""

import numpy as np
import pytest

from tests import runs
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.reading import Reader
from vit_jax.data.sources import ArraySource
from vit_jax.data.statistics import colour_statistics
from vit_jax.errors import ConfigError, DataError
from vit_jax.experiment import build, with_statistics
from vit_jax.workdir import Workdir


def source_of(images: np.ndarray) -> ArraySource:
    labels = np.arange(len(images), dtype=np.int32) % 2
    return ArraySource(images, labels, ("cat", "dog"))


def test_they_are_those_of_all_pixels():
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    images[..., 1] //= 3  # so that colours differ
    reader = Reader(source_of(images))
    mean, std = colour_statistics(reader, 30, Preprocess((8, 8)))
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), atol=5.1e-5)  # four digits
    np.testing.assert_allclose(std, pixels.std(0), atol=5.1e-5)


def test_a_colour_that_never_changes_cannot_be_divided_by():
    reader = Reader(source_of(np.full((4, 8, 8, 3), 7, np.uint8)))
    with pytest.raises(DataError, match=r"without any variation .* give config\.pp\.mean"):
        colour_statistics(reader, 4, Preprocess((8, 8)))


def test_given_values_stay_and_only_missing_ones_are_found():
    config = runs.tiny_config(**{"pp.from_data": True, "pp.mean": (0.1, 0.2, 0.3)})
    found = with_statistics(config)
    assert found.pp.mean == (0.1, 0.2, 0.3)
    assert found.pp.std is not None
    assert with_statistics(runs.tiny_config()).pp.std is None  # who does not ask gets nothing


def test_a_run_normalises_by_them_and_keeps_them(tmp_path):
    config = runs.tiny_config(**{"pp.from_data": True})
    experiment = build(config)
    assert experiment.preprocess.mean == experiment.config.pp.mean
    assert experiment.preprocess.mean != (0.5, 0.5, 0.5)
    place = Workdir(tmp_path)
    place.write_config(experiment.config)
    again = place.inherited(config)
    place.check(again)
    assert again.pp.mean == experiment.config.pp.mean
    with pytest.raises(ConfigError, match=r"pp\.from_data"):
        place.check(place.inherited(runs.tiny_config()))
