"""Texts as the bytes of UTF-8: a tokenizer that needs no vocabulary and no library."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_jax.text.tokenizers import Tokenized, check_length
from vit_jax.text.vocabulary import Vocabulary

_NO_VOCABULARY = Vocabulary("bytes", b"", "bytes")
_END, _START, _FIRST = 0, 1, 2  # tokens; a byte b is token b + 2


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
    """A start token, the bytes of the text in lower case, and end tokens up to `max_len`.

    The last token is an end token always. So a row serves either text tower: 0 is what a BERT takes
    for padding, the first token is the one whose output it gives, and the last is that of a
    `TextTransformer`. (Xue et al., "ByT5", arXiv:2105.13626.)
    """

    max_len: int
    vocab_size: int = 256 + _FIRST
    vocabulary: Vocabulary = _NO_VOCABULARY

    def __post_init__(self) -> None:
        check_length(self.max_len)

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Returns the tokens of each text; "" is the start token and end tokens."""
        tokens, room = np.full((len(texts), self.max_len), _END, np.int32), self.max_len - 2
        tokens[:, 0] = _START
        clipped = 0
        for row, text in zip(tokens, texts, strict=True):
            data = text.lower().encode("utf-8", "replace")
            clipped += len(data) > room
            kept = np.frombuffer(data[:room], np.uint8)
            row[1 : 1 + len(kept)] = kept.astype(np.int32) + _FIRST
        return Tokenized(tokens, clipped)
