"""Vocabularies: files that say which tokens there are, from a disk or the web."""

import dataclasses
import hashlib
from pathlib import Path

from vit_jax.checkpoints.download import fetch
from vit_jax.errors import CheckpointError, ConfigError, nearest

# The kinds of tokenizers, by their official names, and how their files end.
ENDINGS = {"bert": ".txt", "sentencepiece": ".model", "bytes": ""}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made from.

    Attributes:
      kind: "bert" (one word piece a line, in UTF-8) or "sentencepiece" (a trained model).
      content: of the file.
      where: it came from, to begin an error with.
    """

    kind: str
    content: bytes = dataclasses.field(repr=False)
    where: str = dataclasses.field(default="vocabulary", compare=False)

    def __post_init__(self):
        if self.kind not in ENDINGS:
            raise ConfigError(
                f"tokenizer_name={self.kind!r} is none of {', '.join(ENDINGS)}"
                f"{nearest(str(self.kind), ENDINGS)}"
            )

    @property
    def digest(self) -> str:
        """The SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file_name(self) -> str:
        """What to call a copy: "vocabulary.txt" or "vocabulary.model"."""
        return f"vocabulary{ENDINGS[self.kind]}"


def read_vocabulary(kind: str, source: str | Path, sha256: str | None = None) -> Vocabulary:
    """Reads a vocabulary, which is downloaded once if it lies on the web.

    Args:
      kind: "bert" or "sentencepiece".
      source: a path, or what `checkpoints.download.fetch` takes: https, hf and gs locations, from
        a mirror where one is set.
      sha256: what the file must have, in hexadecimal; None where nobody says.

    Raises:
      CheckpointError: it cannot be had, is empty, or has another SHA-256.
      ConfigError: an unknown kind.
    """
    path = fetch(source, sha256=sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CheckpointError(
            f"{source}: the vocabulary cannot be read ({error.strerror})"
            f"{nearest(path.name, beside)}"
        ) from error
    if not content:
        raise CheckpointError(f"{source}: the vocabulary is empty; copy or download it again")
    return Vocabulary(kind, content, str(source))
