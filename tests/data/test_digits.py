"""The embedded digits: sizes, classes and pixels."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vit_jax.data.digits import open_digits


@pytest.mark.parametrize(("split", "count"), [("train", 1442), ("test", 355)])
def test_a_split_has_its_examples_of_all_classes(split, count):
    source = open_digits(split)
    assert len(source) == count
    assert source.images.shape == (count, 8, 8, 3)
    assert source.images.dtype == np.uint8
    assert source.class_names == tuple("0123456789")
    assert np.bincount(source.labels).min() >= 34 / 355 * count  # each class has its share


def test_every_fifth_digit_of_each_class_of_scikit_learns_data_is_a_test_digit():
    images, labels = load_digits(return_X_y=True)
    test = sorted(i for label in range(10) for i in np.flatnonzero(labels == label)[4::5])
    train = sorted(set(range(1797)) - set(test))
    for split, chosen in (("train", train), ("test", test)):
        source = open_digits(split)
        np.testing.assert_array_equal(source.labels, labels[chosen])
        for channel in range(3):
            grey = source.images[..., channel].reshape(-1, 64)
            np.testing.assert_allclose(grey / 255 * 16, images[chosen], atol=0.04)


def test_black_and_white_use_the_whole_range():
    images = open_digits("train").images
    assert (images.min(), images.max()) == (0, 255)


def test_an_example_is_its_image_its_label_and_its_number():
    source = open_digits("test")
    image, label = source[5]
    np.testing.assert_array_equal(image, source.images[5])
    assert label == source.labels[5]
    assert source.name(5) == "example 5"
