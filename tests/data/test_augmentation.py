"""The plan of augmentation: settings in, presets spelt out."""

import pytest

from tests import runs
from vit_jax.config import validate
from vit_jax.data.augmentation import Augmentation, make_augmentation
from vit_jax.errors import ConfigError
from vit_jax.settings.augreg import PRESETS


def _plan(**changes):
    return make_augmentation(runs.tiny_config(augment={"mixup": 0.0, **changes}).augment.to_dict())


def test_without_settings_nothing_is_done():
    assert _plan(rotate=0.0, shift=0.0) == Augmentation()


def test_settings_become_fields():
    plan = _plan(crop_area=(0.1, 1.0), randaugment=(3, 7.5), cutmix=1.0, erase=0.25)
    assert plan == Augmentation(
        crop_area=(0.1, 1.0), rotate=10.0, shift=0.1, randaugment=(3, 7.5), cutmix=1.0, erase=0.25
    )


@pytest.mark.parametrize(
    ("name", "randaugment", "mixup"),
    [
        ("none", None, 0.0),
        ("light0", (2, 0), 0.0),
        ("light1", (2, 10), 0.2),
        ("medium1", (2, 15), 0.2),
        ("medium2", (2, 15), 0.5),
        ("strong1", (2, 20), 0.5),
        ("strong2", (2, 20), 0.8),
    ],
)
def test_a_preset_is_what_augreg_calls_so(name, randaugment, mixup):
    plan = _plan(preset=name, flip=True)
    assert (plan.randaugment, plan.mixup, plan.flip) == (randaugment, mixup, True)
    assert plan.on_host == (randaugment is not None)


def test_all_presets_are_tested():
    assert len(PRESETS) == 7


@pytest.mark.parametrize("name", ["randaugment", "three_augment", "color_jitter"])
def test_some_of_it_only_the_host_does(name):
    assert not _plan(flip=True, crop_area=(0.1, 1.0), cutmix=1.0, erase=0.2).on_host
    assert _plan(**{name: {"randaugment": (1, 1), "three_augment": True}.get(name, 0.1)}).on_host


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            {"preset": "medium1", "mixup": 0.5},
            r"config\.augment\.mixup=0\.5 and config\.augment\.preset='medium1': the preset "
            r"decides it \(0\.2\)",
        ),
        ({"preset": "none", "randaugment": (2, 9)}, r"decides it \(None\); leave one of the two"),
        ({"preset": "medium"}, r"config\.augment\.preset='medium' must .*did you mean 'medium2'"),
        ({"three_augment": True, "color_jitter": 0.4}, "has a colour jitter of its own"),
        ({"repeats": 3}, r"config\.batch=64 must be divisible by config\.augment\.repeats=3"),
        ({"randaugment": (2, 31)}, r"must be \(layers, magnitude\)"),
        ({"randaugment": (0, 5)}, r"must be \(layers, magnitude\)"),
        ({"randaugment": (2.0, 5)}, r"must be \(layers, magnitude\)"),
        ({"randaugment": (2, "strong")}, r"must be \(layers, magnitude\)"),
        ({"crop_area": ("low", "high")}, r"must be \(low, high\)"),
        ({"cutmix_share": 1.5}, "must be from 0 to 1"),
        ({"erase_fill": "nose"}, "did you mean 'noise'"),
    ],
)
def test_what_does_not_go_together_is_refused(augment, message):
    with pytest.raises(ConfigError, match=message):
        validate(runs.tiny_config(augment={"mixup": 0.0, **augment}))
