"""The texts of a run on images with captions: where they come from, and their tokens."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from vit_jax.config import Config
from vit_jax.data.pair_datasets import open_class_pairs, open_pairs
from vit_jax.data.pairs import PairSource
from vit_jax.data.sources import Source
from vit_jax.text.byte_tokens import ByteTokenizer
from vit_jax.text.prompts import TEMPLATES, read_templates, spoken
from vit_jax.text.tokenizers import Tokenizer, open_tokenizer

logger = logging.getLogger("vit_jax")


@dataclasses.dataclass(frozen=True)
class Texts:
    """What a run on images with captions knows of its texts.

    Attributes:
      tokenizer: makes tokens of them.
      templates: captions with "{}" in the place of a class's name; () where captions are free text.
      train, test: the two splits.
    """

    tokenizer: Tokenizer
    templates: tuple[str, ...]
    train: PairSource
    test: PairSource

    def metadata(self) -> dict[str, Any]:
        """Returns what a checkpoint says of the texts."""
        vocabulary = {"kind": self.tokenizer.vocabulary.kind}
        if self.tokenizer.vocabulary.content:
            vocabulary["sha256"] = self.tokenizer.vocabulary.digest
        return {"vocab_size": self.tokenizer.vocab_size, "vocabulary": vocabulary}


def open_texts(
    config: Config,
    arrays: Mapping[str, Source] | None = None,
    vocabulary: Path | None = None,
) -> Texts:
    """Opens the tokenizer and the pairs that a config describes.

    Args:
      config: all settings.
      arrays: {split: source} where `config.dataset` is "arrays"; its captions are made of classes.
      vocabulary: a copy of the tokenizer's file, which is taken where it exists.

    Raises:
      ConfigError, DataError, CheckpointError: what does not exist, or cannot be read.
    """
    templates = ()
    if config.captions == "classes":
        templates = read_templates(config.templates) if config.templates else TEMPLATES
    places = config.tfds_data_dir, config.tfds_manual_dir

    def opened(split: str) -> PairSource:
        if config.captions == "classes":
            return open_class_pairs(config.dataset, split, templates, spoken, arrays, *places)
        return open_pairs(config.dataset, split, *places)

    tokenizer = make_tokenizer(config, vocabulary)
    return Texts(tokenizer, templates, opened(config.pp.train), opened(config.pp.test))


def make_tokenizer(config: Config, vocabulary: Path | None = None) -> Tokenizer:
    """Returns the tokenizer of `text.tokenizer` and `text.vocabulary`, or of a copy of its file."""
    text = config.text
    if text.tokenizer == "bytes":
        return ByteTokenizer(text.max_len)
    if vocabulary is not None and vocabulary.is_file():
        return open_tokenizer(text.tokenizer, vocabulary, text.max_len)
    return open_tokenizer(text.tokenizer, text.vocabulary, text.max_len)


class CaptionTokens:
    """Makes the tokens of the captions in a training batch.

    Args:
      pairs: of the split.
      tokenizer: of the run.
      seed: of the choice among several captions of an image.

    Attributes:
      clipped: texts so far that had more tokens than a row holds.
    """

    def __init__(self, pairs: PairSource, tokenizer: Tokenizer, seed: int):
        self._pairs, self._tokenizer, self._seed = pairs, tokenizer, seed
        self.clipped = 0

    def __call__(self, rows: Mapping[str, np.ndarray]) -> Int32[np.ndarray, "b n"]:
        """Returns a row for each `epoch` and `label`, which is the number of the pair."""
        places = zip(rows["epoch"].tolist(), rows["label"].tolist(), strict=True)
        return self.of([self._pairs.caption(self._seed, *place) for place in places])

    def of(self, texts: Sequence[str]) -> Int32[np.ndarray, "b n"]:
        """Returns the tokens of texts; the first that is cut is told."""
        different = list(dict.fromkeys(texts))
        found = self._tokenizer(different)
        if found.clipped and not self.clipped:
            logger.warning(
                "captions of more than config.text.max_len=%d tokens are cut: %d of the %d texts "
                "seen first",
                self._tokenizer.max_len,
                found.clipped,
                len(different),
            )
        self.clipped += found.clipped
        place = {text: row for row, text in enumerate(different)}
        return found.tokens[[place[text] for text in texts]]
