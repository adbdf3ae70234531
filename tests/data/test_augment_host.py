"""Random crops on the host: their shapes, and that nothing but (seed, epoch, index) decides."""

import numpy as np
import pytest

from tests.data.crop_sizes import TENSORFLOW_CROPS, crop_sizes
from vit_jax.data.augment_host import (
    ASPECT,
    BOX_NUMBERS,
    example_generator,
    example_numbers,
    random_box,
)

RULES = ("torchvision", "tensorflow")


def _boxes(size, area, count=2000, rule="torchvision"):
    numbers = [example_numbers(BOX_NUMBERS, 0, 0, i) for i in range(count)]
    boxes = [random_box(drawn, size, area, rule) for drawn in numbers]
    return np.array(boxes).T  # left, top, right, bottom


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(100, 100), (160, 90), (37, 61)])
@pytest.mark.parametrize("area", [(0.05, 1.0), (0.3, 0.6)])
def test_boxes_keep_to_their_bounds(size, area, rule):
    left, top, right, bottom = _boxes(size, area, rule=rule)
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= size[0] + 1e-9
    assert bottom.max() <= size[1] + 1e-9
    whole = (right - left == size[0]) & (bottom - top == size[1])
    assert whole.mean() < 0.01  # the way out, taken where nothing fits
    share = (right - left) * (bottom - top) / (size[0] * size[1])
    assert share[~whole].min() >= area[0] - 1e-9
    assert share[~whole].max() <= area[1] + 1e-9
    aspect = ((right - left) / (bottom - top))[~whole]
    assert aspect.min() >= ASPECT[0] - 1e-9
    assert aspect.max() <= ASPECT[1] + 1e-9


def test_boxes_lie_everywhere_and_have_every_shape():
    left, top, right, bottom = _boxes((100, 100), (0.05, 0.2))
    area, aspect = (right - left) * (bottom - top) / 1e4, (right - left) / (bottom - top)
    assert area.mean() == pytest.approx(0.125, abs=0.005)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.02)
    assert np.histogram(area, 5, (0.05, 0.2))[0].min() > 300
    slim, wide = np.log(ASPECT)
    assert np.histogram(np.log(aspect), 5, (slim, wide))[0].min() > 300
    assert ((left + right) / 2).mean() == pytest.approx(50, abs=2)
    assert ((top + bottom) / 2).mean() == pytest.approx(50, abs=2)
    assert min(left.min(), top.min()) < 1
    assert max(right.max(), bottom.max()) > 99


@pytest.mark.parametrize(("size", "area", "expected"), TENSORFLOW_CROPS)
def test_boxes_by_the_rule_of_tensorflow_are_as_large_as_its_own(size, area, expected):
    left, top, right, bottom = _boxes(size, area, 20_000, "tensorflow")
    assert crop_sizes(right - left, bottom - top, size) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "area"), [((100, 100), (1.0, 1.0)), ((1000, 10), (0.9, 1.0))])
def test_where_no_box_fits_the_whole_image_is_taken(size, area, rule):
    assert random_box(example_numbers(BOX_NUMBERS, 0, 0, 0), size, area, rule) == (0, 0, *size)


@pytest.mark.parametrize(
    ("example", "rule", "expected"),
    [
        ((0, 0, 0), "torchvision", (44.36246, 16.721223, 85.674154, 65.378936)),
        ((7, 2, 1000), "torchvision", (43.136811, 13.744047, 85.096793, 63.401046)),
        ((0, 0, 0), "tensorflow", (53.220179, 24.651685, 82.813756, 58.444526)),
        ((7, 2, 1000), "tensorflow", (52.052336, 20.652236, 82.016595, 55.05789)),
    ],
)
def test_the_box_of_an_example_never_changes(example, rule, expected):
    """A change here would continue interrupted runs with other crops than they began with."""
    box = random_box(example_numbers(BOX_NUMBERS, *example), (100, 80), (0.05, 1.0), rule)
    assert box == pytest.approx(expected)


def test_seed_epoch_and_index_each_give_other_numbers():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0)]
    assert len({example_generator(*key).random() for key in keys}) == len(keys)
    assert example_generator(1, 2, 3).random() == example_generator(1, 2, 3).random()


def test_examples_do_not_share_the_numbers_that_order_the_epoch():
    order = np.random.Generator(np.random.Philox(key=[5, 0])).random(100)
    assert not set(order.tolist()) & set(example_generator(5, 0, 0).random(100).tolist())


def test_numbers_of_an_example_are_those_of_its_generator_in_any_order():
    """Each thread has one generator that is set to the example: nothing of the last may stay."""
    places = [(0, 0, 0), (7, 3, 12345), (0, 0, 0), (2**31, 1, 2)]
    for place, count in zip(places, (3, 22, 22, 5), strict=True):
        expected = example_generator(*place).random(count).tolist()
        assert example_numbers(count, *place) == expected
