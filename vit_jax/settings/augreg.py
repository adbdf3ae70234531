"""The augmentations of AugReg by the names that its checkpoints carry ("…-aug_medium1-…").

Steiner et al., "How to train your ViT?", 2021 (arXiv:2106.10270): RandAugment's (layers, magnitude)
and mixup's alpha. The paper counts its two light ones from 1, the checkpoints from 0.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "light0": {"randaugment": (2, 0)},
    "light1": {"randaugment": (2, 10), "mixup": 0.2},
    "medium1": {"randaugment": (2, 15), "mixup": 0.2},
    "medium2": {"randaugment": (2, 15), "mixup": 0.5},
    "strong1": {"randaugment": (2, 20), "mixup": 0.5},
    "strong2": {"randaugment": (2, 20), "mixup": 0.8},
}
SET_BY_PRESETS = ("randaugment", "mixup")
