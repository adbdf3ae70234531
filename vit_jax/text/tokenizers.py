"""From texts to tokens, by the maintained libraries `tokenizers` and `sentencepiece`.

Both are of the extra `lit`, and imported when a tokenizer is made.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.extras import imported
from vit_jax.runtime.output import well_formed
from vit_jax.text.vocabulary import Vocabulary, read_vocabulary

_WHAT = "a tokenizer"
_CLS, _UNKNOWN = "[CLS]", "[UNK]"
_PADDING = 0  # officially the number, whatever the vocabulary's first line is


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """n texts as tokens.

    Attributes:
      tokens: one row a text.
      clipped: how many texts had more tokens than a row holds; the rest of them is lost.
    """

    tokens: Int32[np.ndarray, "n length"]
    clipped: int


@runtime_checkable
class Tokenizer(Protocol):
    """What turns texts into rows of tokens.

    `tokenizer(texts)` gives as many rows as there are texts, of `max_len` tokens each, below
    `vocab_size`; `vocabulary` makes the same tokenizer again.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_len(self) -> int: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    def __call__(self, texts: Sequence[str]) -> Tokenized: ...


class BertTokenizer:
    """Word pieces: `[CLS]`, the pieces of the text in lower case, zeros up to `max_len`.

    As officially there is no `[SEP]`. Accents are taken off, punctuation and Chinese characters
    stand alone, and a word that no pieces make up is `[UNK]`, as is one of more than 100 characters
    (officially bytes). Source: arXiv:1810.04805; TensorFlow Text's BertTokenizer, which folds case
    where this one lowers it: "ß" becomes "ss" there, and stays itself here.
    """

    def __init__(self, vocabulary: Vocabulary, max_len: int):
        """Raises `ConfigError` without the extra `lit`, `CheckpointError` for no vocabulary."""
        check_length(max_len)
        library = imported("tokenizers", "lit", _WHAT)
        pieces = _pieces(vocabulary)
        model = library.models.WordPiece(pieces, unk_token=_UNKNOWN)
        self._tokenizer = library.Tokenizer(model)
        self._tokenizer.normalizer = library.normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
        )
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        self._cls = pieces[_CLS]
        self.vocabulary, self.max_len, self.vocab_size = vocabulary, max_len, len(pieces)

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Returns the tokens of each text; "" is `[CLS]` alone."""
        found = self._tokenizer.encode_batch_fast(_well_formed(texts), add_special_tokens=False)
        rows = [[self._cls, *text.ids] for text in found]
        return _filled(rows, self.max_len, _PADDING)


class SentencePieceTokenizer:
    """Sentence pieces, and the end token `</s>` from there to the last place.

    A text that is too long loses its end, but the last token is `</s>` all the same: it is the one
    whose output a `TextTransformer` gives. Source: arXiv:1808.06226; the official LiT.
    """

    def __init__(self, vocabulary: Vocabulary, max_len: int):
        """Raises `ConfigError` without the extra `lit`, `CheckpointError` for no such model."""
        check_length(max_len)
        library = imported("sentencepiece", "lit", _WHAT)
        try:
            self._model = library.SentencePieceProcessor(model_proto=vocabulary.content)
        except RuntimeError as error:
            raise CheckpointError(
                f"{vocabulary.where}: is no SentencePiece model; a vocabulary of BERT is read "
                "with tokenizer_name='bert'"
            ) from error
        self._end = self._model.eos_id()
        if self._end < 0:
            raise CheckpointError(
                f"{vocabulary.where}: has no end token </s>, which every text must end with; train "
                "the SentencePiece model with one (eos_id=1)"
            )
        self.vocabulary, self.max_len = vocabulary, max_len
        self.vocab_size = self._model.vocab_size()

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Returns the tokens of each text; "" is end tokens alone."""
        rows = self._model.encode(_well_formed(texts), out_type=int)
        found = _filled(rows, self.max_len - 1, self._end)
        end = np.full((len(rows), 1), self._end, np.int32)
        return dataclasses.replace(found, tokens=np.concatenate([found.tokens, end], axis=1))


TOKENIZERS: dict[str, Any] = {"bert": BertTokenizer, "sentencepiece": SentencePieceTokenizer}


def make_tokenizer(vocabulary: Vocabulary, max_len: int) -> Tokenizer:
    """Returns the tokenizer of a vocabulary; rows have `max_len` tokens.

    Raises:
      ConfigError: `max_len` is below 2, or the extra `lit` is not installed.
      CheckpointError: the vocabulary is none of its kind.
    """
    return TOKENIZERS[vocabulary.kind](vocabulary, max_len)


def open_tokenizer(kind: str, source: str | Path, max_len: int) -> Tokenizer:
    """Reads a vocabulary and returns its tokenizer; see `read_vocabulary` and `make_tokenizer`."""
    return make_tokenizer(read_vocabulary(kind, source), max_len)


def check_vocabulary(tokenizer: Tokenizer, rows: int, weights: str) -> None:
    """Raises `CheckpointError` unless the weights embed as many tokens as the vocabulary has.

    Args:
      tokenizer: that is to be used with the weights.
      rows: of the text tower's table of embeddings.
      weights: where they come from.
    """
    if tokenizer.vocab_size != rows:
        raise CheckpointError(
            f"{tokenizer.vocabulary.where}: has {tokenizer.vocab_size:,} tokens, but {weights} "
            f"embeds {rows:,}; use the vocabulary that the weights were trained with"
        )


def _pieces(vocabulary: Vocabulary) -> dict[str, int]:
    """Returns {piece: number}, one of each line; an empty last line does not count."""
    try:
        lines = vocabulary.content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{vocabulary.where}: is no vocabulary of BERT, which is text with one word piece a "
            "line; a SentencePiece model is read with tokenizer_name='sentencepiece'"
        ) from error
    if not lines[-1]:
        del lines[-1]
    pieces = {piece: number for number, piece in enumerate(lines)}
    missing = [piece for piece in (_CLS, _UNKNOWN) if piece not in pieces]
    if missing or len(pieces) < len(lines):
        twice = next((piece for number, piece in enumerate(lines) if pieces[piece] != number), "")
        wrong = f"lacks {' and '.join(missing)}" if missing else f"has {twice!r} twice"
        raise CheckpointError(
            f"{vocabulary.where}: {wrong}; a vocabulary of BERT has one word piece a line, each "
            f"once, {_CLS} and {_UNKNOWN} among them"
        )
    return pieces


def _filled(rows: Sequence[Sequence[int]], length: int, padding: int) -> Tokenized:
    tokens = np.full((len(rows), length), padding, np.int32)
    for place, row in enumerate(rows):
        kept = row[:length]
        tokens[place, : len(kept)] = kept
    return Tokenized(tokens, sum(len(row) > length for row in rows))


def _well_formed(texts: Sequence[str]) -> list[str]:
    """Replaces halves of surrogate pairs, which no encoding has, and the libraries refuse."""
    return list(map(well_formed, texts))


def check_length(max_len: int) -> None:
    """Raises `ConfigError` for rows that have no room for a token beside the mark."""
    if max_len < 2:
        raise ConfigError(
            f"max_len={max_len}: must be at least 2, as one token marks the beginning or the end"
        )
