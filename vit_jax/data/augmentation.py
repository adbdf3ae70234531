"""The plan of training augmentation: what `augment.*` asks for, whoever carries it out."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax.settings.augreg import PRESETS


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training images; `vit_jax.settings` says what each field means."""

    crop_area: tuple[float, float] | None = None
    crop_rule: str = "torchvision"
    flip: bool = False
    rotate: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_fill: str = "noise"
    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_share: float = 0.5
    randaugment: tuple[int, int | float] | None = None
    three_augment: bool = False
    color_jitter: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether images are turned, moved or scaled."""
        return bool(self.rotate or self.shift or self.scale)

    @property
    def on_host(self) -> bool:
        """Whether anything is asked for that only the host does."""
        return bool(self.randaugment or self.three_augment or self.color_jitter)


def make_augmentation(settings: Mapping[str, Any]) -> Augmentation:
    """Returns the plan that the settings of `augment.*` describe, with a preset spelt out."""
    fields = {name: value for name, value in settings.items() if name not in ("preset", "repeats")}
    if settings["preset"] is not None:
        fields |= PRESETS[settings["preset"]]
    return Augmentation(**fields)
