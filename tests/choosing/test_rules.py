"""The rules as tables: from facts to settings."""

import dataclasses
import math

import pytest

from tests.choosing.setting import CPU, GPU, VIT, facts
from vit_jax.choosing import rules
from vit_jax.choosing.rules import Devices, Weights


@pytest.mark.parametrize(
    ("side", "weights", "devices", "pixels"),
    [
        (500, VIT, GPU, 384),
        (384, VIT, GPU, 384),
        (383, VIT, GPU, 224),  # nothing more to see
        (32, VIT, GPU, 224),
        (500, VIT, CPU, 224),  # three times as long
        (500, Weights("h14", 224, 14, any_size=True), GPU, 378),  # whole patches
        (500, Weights("b16", 384, 16, any_size=True), GPU, 384),
        (500, Weights("b16", 512, 16, any_size=True), GPU, 512),
        (500, Weights("mixer", 224, 16, any_size=False), GPU, 224),
    ],
)
def test_resolution(side, weights, devices, pixels):
    assert rules.resolution(facts(side=side), weights, devices).value == pixels


@pytest.mark.parametrize(
    ("train", "devices", "size"),
    [
        (10_000, GPU, 512),
        (512, GPU, 512),
        (511, GPU, 256),
        (80, GPU, 64),
        (10, GPU, 32),
        (10_000, CPU, 32),
        (10_000, Devices("gpu", 6), 516),  # equal shares
        (10_000, Devices("gpu", 8), 512),
    ],
)
def test_batch(train, devices, size):
    assert rules.batch(facts(train), devices).value == size


@pytest.mark.parametrize(
    ("train", "size", "devices", "steps"),
    [
        (80, 64, GPU, 500),
        (19_999, 512, GPU, 500),
        (20_000, 512, GPU, 10_000),
        (499_999, 512, GPU, 10_000),
        (500_000, 512, GPU, 20_000),
        (20_000, 32, CPU, 10_000),
        (1_000, 32, CPU, 500),
        (80, 32, CPU, 150),
        (10, 32, CPU, rules.FEWEST_STEPS),
    ],
)
def test_steps_are_those_of_the_hyper_rule_but_for_few_images(train, size, devices, steps):
    assert rules.steps(facts(train), size, devices).value == steps


@pytest.mark.parametrize(
    ("minutes", "seconds", "steps"), [(10, 1.0, 480), (10, 2.0, 240), (10, 0.1, 500)]
)
def test_a_budget_leaves_a_fifth_to_testing_and_never_adds_steps(minutes, seconds, steps):
    assert rules.steps_in(minutes, seconds, facts(), 32, 500).value == steps


def test_rates_follow_the_batch():
    rates = [rules.learning_rate(size).value for size in (512, 256, 128, 32)]
    assert rates == [0.03, 0.03, 0.02, 0.02]


@pytest.mark.parametrize(("total", "steps"), [(500, 50), (20_000, 500), (20, 2), (5, 0)])
def test_warmup_ends_before_the_run(total, steps):
    assert rules.warmup(total).value == steps < total


def test_mixup_comes_with_much_data():
    def found(train):
        return {one.setting: one.value for one in rules.augmentation(facts(train))}

    assert found(19_999) == {
        "augment.crop_area": (0.05, 1.0),
        "augment.crop_rule": "tensorflow",
        "augment.flip": True,
    }
    assert found(20_000)["augment.mixup"] == 0.1


@pytest.mark.parametrize("test", [1, 30, 5_000, 100_000, 10_000_000])
@pytest.mark.parametrize("steps", [1, 7, 500])
def test_testing_takes_a_fifth_of_the_time_at_most(test, steps):
    found = {c.setting: c.value for c in rules.evaluations(facts(test=test), steps, 32)}
    every = found["eval_every"]
    count = math.ceil(steps / every)
    assert 1 <= every <= steps
    assert 1 <= count <= rules.EVALUATIONS
    assert found["checkpoint_every"] == every
    testing, training = count * test / 3, steps * 32
    assert count == 1 or testing <= 0.2 * (testing + training) * 1.001


def test_the_spread_of_a_score():
    assert rules.score_spread(30) == pytest.approx(0.179, abs=1e-3)
    assert rules.score_spread(10_000) == pytest.approx(0.0098, abs=1e-4)


def test_every_reason_is_a_line_that_fits_the_table():
    found = dataclasses.replace(facts(80), held_out=True)
    for choice in (
        *(rules.resolution(found, VIT, d) for d in (CPU, GPU)),
        *(rules.batch(found, d) for d in (CPU, GPU)),
        *(rules.steps(found, 32, CPU), rules.learning_rate(32), rules.warmup(100)),
        *(*rules.augmentation(facts(50_000)), *rules.evaluations(found, 100, 32)),
        rules.steps_in(5, 1.0, found, 32, 500),
    ):
        assert 0 < len(choice.why) <= 53
