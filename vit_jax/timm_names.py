"""timm's names of models, `architecture.tag`: those whose models are built here too.

Read from timm 1.0.31 (the pretrained configurations in vision_transformer.py,
vision_transformer_hybrid.py, deit.py and mlp_mixer.py, and the old names in its registry).
"""

import dataclasses
import re

_PREFIXES = re.compile(r"^(hf[-_]hub:)?(timm/)?")

# The tags of an architecture, timm's default first; none where timm has no weights of it.
_TAGS: dict[str, str] = {
    "vit_tiny_patch16_224": "augreg_in21k_ft_in1k augreg_in21k",
    "vit_tiny_patch16_384": "augreg_in21k_ft_in1k",
    "vit_small_patch8_224": "dino",
    "vit_small_patch16_224": "augreg_in21k_ft_in1k augreg_in1k augreg_in21k dino",
    "vit_small_patch16_384": "augreg_in21k_ft_in1k augreg_in1k",
    "vit_small_patch32_224": "augreg_in21k_ft_in1k augreg_in21k",
    "vit_small_patch32_384": "augreg_in21k_ft_in1k",
    "vit_base_patch8_224": "augreg2_in21k_ft_in1k augreg_in21k_ft_in1k augreg_in21k dino",
    "vit_base_patch16_224": "augreg2_in21k_ft_in1k augreg_in21k_ft_in1k orig_in21k_ft_in1k "
    "augreg_in1k orig_in21k augreg_in21k sam_in1k bamboo dino mae",
    "vit_base_patch16_384": "augreg_in21k_ft_in1k orig_in21k_ft_in1k augreg_in1k",
    "vit_base_patch32_224": "augreg_in21k_ft_in1k augreg_in1k orig_in21k augreg_in21k sam_in1k",
    "vit_base_patch32_384": "augreg_in21k_ft_in1k augreg_in1k",
    "vit_large_patch14_224": "",
    "vit_large_patch16_224": "augreg_in21k_ft_in1k orig_in21k augreg_in21k mae",
    "vit_large_patch16_384": "augreg_in21k_ft_in1k",
    "vit_large_patch32_224": "orig_in21k",
    "vit_large_patch32_384": "orig_in21k_ft_in1k",
    "vit_huge_patch14_224": "orig_in21k mae",
    "vit_giant_patch14_224": "",
    "vit_gigantic_patch14_224": "",
    "vit_small_patch14_dinov2": "lvd142m",
    "vit_base_patch14_dinov2": "lvd142m",
    "vit_large_patch14_dinov2": "lvd142m",
    "vit_small_patch14_reg4_dinov2": "lvd142m",
    "vit_base_patch14_reg4_dinov2": "lvd142m",
    "vit_large_patch14_reg4_dinov2": "lvd142m",
    "vit_tiny_r_s16_p8_224": "augreg_in21k_ft_in1k augreg_in21k",
    "vit_tiny_r_s16_p8_384": "augreg_in21k_ft_in1k",
    "vit_small_r26_s32_224": "augreg_in21k_ft_in1k augreg_in21k",
    "vit_small_r26_s32_384": "augreg_in21k_ft_in1k",
    "vit_base_r26_s32_224": "",
    "vit_base_r50_s16_224": "orig_in21k",
    "vit_base_r50_s16_384": "orig_in21k_ft_in1k",
    "vit_large_r50_s32_224": "augreg_in21k_ft_in1k augreg_in21k",
    "vit_large_r50_s32_384": "augreg_in21k_ft_in1k",
    "deit_tiny_patch16_224": "fb_in1k",
    "deit_small_patch16_224": "fb_in1k",
    "deit_base_patch16_224": "fb_in1k",
    "deit_base_patch16_384": "fb_in1k",
    "deit_tiny_distilled_patch16_224": "fb_in1k",
    "deit_small_distilled_patch16_224": "fb_in1k",
    "deit_base_distilled_patch16_224": "fb_in1k",
    "deit_base_distilled_patch16_384": "fb_in1k",
    "deit3_small_patch16_224": "fb_in1k fb_in22k_ft_in1k",
    "deit3_small_patch16_384": "fb_in1k fb_in22k_ft_in1k",
    "deit3_medium_patch16_224": "fb_in1k fb_in22k_ft_in1k",
    "deit3_base_patch16_224": "fb_in1k fb_in22k_ft_in1k",
    "deit3_base_patch16_384": "fb_in1k fb_in22k_ft_in1k",
    "deit3_large_patch16_224": "fb_in1k fb_in22k_ft_in1k",
    "deit3_large_patch16_384": "fb_in1k fb_in22k_ft_in1k",
    "deit3_huge_patch14_224": "fb_in1k fb_in22k_ft_in1k",
    "mixer_s16_224": "",
    "mixer_s32_224": "",
    "mixer_b16_224": "goog_in21k_ft_in1k goog_in21k",
    "mixer_b32_224": "",
    "mixer_l16_224": "goog_in21k_ft_in1k goog_in21k",
    "mixer_l32_224": "",
}
# What an old name had at its end in the place of a tag; of several tags the first that is there.
_OLD_ENDINGS = {
    "_in21k": ("augreg_in21k", "orig_in21k", "goog_in21k_ft_in1k"),  # the last is no slip of ours
    "_in21ft1k": ("fb_in22k_ft_in1k",),
    "_dino": ("dino",),
    "_sam": ("sam_in1k",),
}
# Tags of weights without a classifier, as timm keeps them.
_HEADLESS = ("orig_in21k", "dino", "mae", "lvd142m")
_OWN_CLASSES = {"bamboo": 115_217}


@dataclasses.dataclass(frozen=True)
class TimmName:
    """A name of timm.

    Attributes:
      architecture: what stands before the point.
      tag: of the weights, what stands behind it; None where the name has none.
    """

    architecture: str
    tag: str | None

    @property
    def num_classes(self) -> int | None:
        """Of the model that timm builds by this name; None without a head."""
        tag = self.tag or self.default_tag or ""
        if tag in _HEADLESS:
            return None
        return _OWN_CLASSES.get(tag, 21_843 if tag.endswith("in21k") else 1000)

    @property
    def default_tag(self) -> str | None:
        """Of the weights that timm takes for a name without one; None if it has none."""
        return next(iter(_TAGS[self.architecture].split()), None)

    @property
    def weights(self) -> str | None:
        """The whole name of the weights, as the Hugging Face hub has it; None if there are none."""
        tag = self.tag or self.default_tag
        return f"{self.architecture}.{tag}" if tag else None


def parse(name: str) -> TimmName | None:
    """Returns a name in its parts, old ones in today's form; None if it is none of these.

    "timm/", "hf-hub:timm/" and "hf_hub:timm/" may stand before it.
    """
    architecture, _, tag = _PREFIXES.sub("", name).partition(".")
    if architecture in _TAGS:
        known = not tag or tag in _TAGS[architecture].split()
        return TimmName(architecture, tag or None) if known else None
    for ending, tags in _OLD_ENDINGS.items():
        current = architecture.removesuffix(ending)
        for old in tags if current != architecture and not tag else ():
            if old in _TAGS.get(current, "").split():
                return TimmName(current, old)
    return None


def looks_like_one(name: str) -> bool:
    """Whether a name has the form of timm's, of these models or of others."""
    return bool(re.match(r"^(hf[-_]hub:)?timm/|\w+_(patch\d+|\d{3})([_.]|$)", name))


def names() -> list[str]:
    """Returns all names, without and with tags."""
    tagged = [f"{name}.{tag}" for name, tags in _TAGS.items() for tag in tags.split()]
    return [*_TAGS, *tagged]
