"""The models that timm's names mean, as constructor fields of ours.

Read from timm 1.0.31: as there, no dropout and the erf form of GELU. Only a tag of weights that the
official code trained means its tanh form, as `load_pretrained` gives them (timm computes erf there
too); a Mixer has no other here.
"""

import re
from typing import Any

from vit_jax.models.sizes import mixer_fields, vit_fields
from vit_jax.timm_names import TimmName

_LETTERS = {
    "tiny": "Ti",
    "small": "S",
    "medium": "M",
    "base": "B",
    "large": "L",
    "huge": "H",
    "giant": "g",
    "gigantic": "G",
}
_VIT = re.compile(
    r"(?P<family>vit|deit3?)_(?P<size>[a-z]+)_(?P<distilled>distilled_)?patch(?P<patch>\d+)_"
    r"(?P<registers>reg4_)?(?P<dino>dinov2)?"
)
_HYBRID = re.compile(r"vit_(?P<size>[a-z]+)_(?P<resnet>r\d*_s\d+)")
_MIXER = re.compile(r"mixer_(?P<size>[sbl])(?P<patch>\d+)_")
# Blocks of each stage, and the patch in pixels of what comes out of them.
_RESNETS = {
    "r_s16": ((), 8),
    "r26_s32": ((2, 2, 2, 2), 1),
    "r50_s16": ((3, 4, 9), 1),
    "r50_s32": ((3, 4, 6, 3), 1),
}
_OFFICIALLY_TRAINED = ("augreg_", "orig_", "sam_", "goog_")


def timm_fields(name: TimmName) -> dict[str, Any]:
    """Returns the constructor fields of a `VisionTransformer`, or of an `MlpMixer`."""
    known = name.architecture
    if (mixer := _MIXER.match(known)) is not None:
        return {"model_name": known, **mixer_fields(mixer["size"].upper(), int(mixer["patch"]))}
    official = (name.tag or "").startswith(_OFFICIALLY_TRAINED)
    if (hybrid := _HYBRID.match(known)) is not None:
        stages, patch = _RESNETS[hybrid["resnet"]]
        further: dict[str, Any] = {"resnet": {"num_layers": stages, "width_factor": 1}}
        fields = _vit_fields(hybrid["size"], patch, official)
    else:
        vit = _VIT.match(known)
        assert vit is not None, known
        further, fields = _further(vit), _vit_fields(vit["size"], int(vit["patch"]), official)
        if (scale := _layer_scale(vit)) is not None:
            fields["transformer"]["layer_scale"] = scale
    return {"model_name": known, **fields, **further}


def _vit_fields(size: str, patch: int, official: bool) -> dict[str, Any]:
    fields = vit_fields(_LETTERS[size], patch)
    fields["transformer"]["activation"] = "gelu_tanh" if official else "gelu_erf"
    return fields


def _further(vit: re.Match[str]) -> dict[str, Any]:
    """Returns the fields that DeiTs and DINOv2 have besides."""
    fields: dict[str, Any] = {}
    if vit["distilled"]:
        fields["pool"] = "distilled"
    if vit["registers"]:
        fields["num_registers"] = 4
    if vit["registers"] or vit["family"] == "deit3":
        fields["positions"] = {"class_row": False}
    return fields


def _layer_scale(vit: re.Match[str]) -> float | None:
    if vit["dino"]:
        return 1e-5
    return 1e-6 if vit["family"] == "deit3" else None
