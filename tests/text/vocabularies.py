"""Small vocabularies, made here: nothing is downloaded."""

import io

import pytest

from vit_jax.text.vocabulary import Vocabulary

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("a", "photo", "of", "the", "cat", "dog", "##s", "##house", "naive", "straße", "猫", "!"),
]
SENTENCES = [
    "a photo of a cat",
    "a photo of a dog",
    "two dogs and one cat in the house",
    "the quick brown fox jumps over the lazy dog",
    "naïve cats like 猫 and straße!",
]


def bert(*pieces: str) -> Vocabulary:
    """Returns a vocabulary of these word pieces, or of `PIECES`."""
    content = "\n".join(pieces or PIECES) + "\n"
    return Vocabulary("bert", content.encode(), "vocab.txt")


def sentencepiece(size: int = 48, **options: object) -> Vocabulary:
    """Trains a SentencePiece model on `SENTENCES`; skips the test without the library."""
    library = pytest.importorskip("sentencepiece", reason="the extra lit")
    written = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=written,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return Vocabulary("sentencepiece", written.getvalue(), "pieces.model")
