"""The plan of training augmentation: what `augment.*` asks for, whoever carries it out."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training images; `vit_jax.settings` says what each field means."""

    crop_area: tuple[float, float] | None = None
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

    @property
    def moves(self) -> bool:
        """Whether images are turned, moved or scaled."""
        return bool(self.rotate or self.shift or self.scale)
