"""The released LiT models: where weights and vocabularies lie, and how well they do.

The facts are those of the official repository at c6de1e5: `models_lit.py` for the places, README
and LICENSE for the rest. Nobody publishes a SHA-256 of these files, so there is none.
"""

import dataclasses
import fnmatch
import re

from vit_jax.errors import CheckpointError, nearest

_BUCKET = "gs://vit_models/lit"
LICENCE, LICENCE_SOURCE = "Apache-2.0", "LICENSE of google-research/vision_transformer"


@dataclasses.dataclass(frozen=True)
class ReleasedLit:
    """A LiT model with its vocabulary.

    Attributes:
      name: of the model (`vit_jax models`).
      tokenizer: "bert" or "sentencepiece".
      zero_shot: top-1 on ImageNet-1k in percent, as the official README reports it; None if it
        does not.
    """

    name: str
    tokenizer: str
    zero_shot: float | None = None

    @property
    def weights(self) -> str:
        """The location of the npz."""
        return f"{_BUCKET}/{self.name}.npz"

    @property
    def vocabulary(self) -> str:
        """The location of the vocabulary."""
        return f"{_BUCKET}/{self.name}.{'txt' if self.tokenizer == 'bert' else 'model'}"


RELEASED = (
    ReleasedLit("LiT-B16B", "bert", 72.1),
    ReleasedLit("LiT-B16B_2", "bert", 73.9),
    ReleasedLit("LiT-L16L", "bert", 75.7),
    ReleasedLit("LiT-L16S", "sentencepiece"),
    ReleasedLit("LiT-L16Ti", "sentencepiece"),
)


def released(name: str) -> ReleasedLit | None:
    """Returns the model of a name, whatever its case and punctuation; None for other names.

    Raises:
      CheckpointError: it begins as theirs do, and is none of them.
    """
    by_name = {_bare(one.name): one for one in RELEASED}
    bare = _bare(name.removesuffix(".npz").removeprefix("lit/"))
    if bare in by_name:
        return by_name[bare]
    if re.match(r"lit[-_/]", name.lower()):
        names = [one.name for one in RELEASED]
        raise CheckpointError(
            f"pretrained weights {name!r} are unknown{nearest(name, names)} (the released LiT "
            f"models are {', '.join(names)})"
        )
    return None


def matching(pattern: str | None) -> list[ReleasedLit]:
    """Returns those whose name has a part like `pattern`, as `catalogue.matching` finds others."""
    sought = f"*{(pattern or '').lower()}*"
    return [one for one in RELEASED if fnmatch.fnmatchcase(one.name.lower(), sought)]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
