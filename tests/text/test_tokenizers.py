"""Tokens: the official rules for both kinds, what is clipped, what is refused."""

import sys
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.serving import Served, serve
from tests.text import vocabularies
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.text import tokenizers
from vit_jax.text.byte_tokens import ByteTokenizer
from vit_jax.text.vocabulary import Vocabulary, read_vocabulary

NUMBER = {piece: number for number, piece in enumerate(vocabularies.PIECES)}


@pytest.fixture
def bert() -> tokenizers.Tokenizer:
    pytest.importorskip("tokenizers", reason="the extra lit")
    return tokenizers.make_tokenizer(vocabularies.bert(), 6)


@pytest.fixture(scope="module")
def pieces() -> Vocabulary:
    return vocabularies.sentencepiece()


def words(tokens: Any) -> list[str]:
    return [vocabularies.PIECES[number] for number in tokens]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("A photo of cats", "[CLS] a photo of cat ##s"),
        ("", "[CLS] [PAD] [PAD] [PAD] [PAD] [PAD]"),
        (" \n\t ", "[CLS] [PAD] [PAD] [PAD] [PAD] [PAD]"),
        ("CATHOUSE!", "[CLS] cat ##house ! [PAD] [PAD]"),
        ("Naïve", "[CLS] naive [PAD] [PAD] [PAD] [PAD]"),
        ("nai\u0308ve", "[CLS] naive [PAD] [PAD] [PAD] [PAD]"),  # the accent apart
        ("STRAßE", "[CLS] straße [PAD] [PAD] [PAD] [PAD]"),
        ("cat猫dog", "[CLS] cat 猫 dog [PAD] [PAD]"),
        ("cat zebra", "[CLS] cat [UNK] [PAD] [PAD] [PAD]"),
        ("😀 \ud83d dog", "[CLS] [UNK] [UNK] dog [PAD] [PAD]"),  # half a pair is no character
        ("ca\x00t\u200b", "[CLS] cat [PAD] [PAD] [PAD] [PAD]"),
        ("cat" + 40 * "house", "[CLS] [UNK] [PAD] [PAD] [PAD] [PAD]"),
        ("[MASK]", "[CLS] [UNK] [UNK] [UNK] [PAD] [PAD]"),  # nobody types a special token
    ],
)
def test_word_pieces(bert, text, row):
    found = bert([text])
    assert words(found.tokens[0]) == row.split()
    assert found.clipped == 0


def test_word_pieces_are_clipped_and_counted(bert):
    found = bert(["a photo of the cat", "a photo of the cat!", "", "dogs dogs dogs dogs"])
    assert found.tokens.shape == (4, 6)
    assert found.tokens.dtype == np.int32
    assert found.clipped == 2
    assert words(found.tokens[1]) == "[CLS] a photo of the cat".split()
    assert words(found.tokens[3]) == "[CLS] dog ##s dog ##s dog".split()


def test_no_texts(bert, pieces):
    for tokenizer in (bert, tokenizers.make_tokenizer(pieces, 6)):
        assert tokenizer([]).tokens.shape == (0, 6)
        assert isinstance(tokenizer, tokenizers.Tokenizer)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_of_any_system(line_end, mark):
    pytest.importorskip("tokenizers", reason="the extra lit")
    content = mark + line_end.join(vocabularies.PIECES)
    tokenizer = tokenizers.make_tokenizer(Vocabulary("bert", content.encode()), 4)
    assert tokenizer.vocab_size == len(vocabularies.PIECES)
    assert words(tokenizer(["the cat"]).tokens[0]) == "[CLS] the cat [PAD]".split()


def test_sentence_pieces_end_with_the_end_token(pieces):
    sentencepiece: Any = pytest.importorskip("sentencepiece")

    model = sentencepiece.SentencePieceProcessor(model_proto=pieces.content)
    texts = ["a photo of a cat", "", "Naïve 猫 😀", "fox", "the quick brown fox jumps over"]
    own = [model.encode(text) for text in texts]
    length = len(own[0]) + 1  # the first text just fits, with one end token
    tokenizer = tokenizers.make_tokenizer(pieces, length)
    found = tokenizer(texts)
    assert found.tokens.shape == (5, length)
    assert tokenizer.vocab_size == model.vocab_size()
    for row, numbers in zip(found.tokens, own, strict=True):
        kept = numbers[: length - 1]
        assert list(row) == kept + [model.eos_id()] * (length - len(kept))
    assert found.clipped == sum(len(numbers) >= length for numbers in own) >= 1
    assert tokenizer(["\ud83d"]).tokens.shape == (1, length)


def test_a_sentence_piece_model_without_an_end_is_refused():
    with pytest.raises(CheckpointError, match=r"pieces.model: has no end token </s>"):
        tokenizers.make_tokenizer(vocabularies.sentencepiece(eos_id=-1), 4)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (vocabularies.bert("[PAD]", "[CLS]", "a"), r"vocab.txt: lacks \[UNK\]; a vocabulary of BE"),
        (vocabularies.bert("a"), r"lacks \[CLS\] and \[UNK\]"),
        (vocabularies.bert("[CLS]", "[UNK]", "a", "b", "a"), "has 'a' twice"),
        (Vocabulary("bert", b"\xff\x00\x80", "x"), "x: is no vocabulary of BERT, .*'sentencepiece"),
        (Vocabulary("sentencepiece", b"[CLS]\na", "y"), "y: is no SentencePiece model.*'bert'"),
    ],
)
def test_a_file_of_another_kind_is_one_line(vocabulary, message):
    pytest.importorskip("sentencepiece", reason="the extra lit")
    with pytest.raises(CheckpointError, match=message) as caught:
        tokenizers.make_tokenizer(vocabulary, 4)
    assert "\n" not in str(caught.value)


def test_lengths_and_kinds_that_cannot_be(bert):
    with pytest.raises(ConfigError, match="max_len=1: must be at least 2"):
        tokenizers.make_tokenizer(bert.vocabulary, 1)
    with pytest.raises(ConfigError, match="max_len=1: must be at least 2"):
        ByteTokenizer(1)
    assert ByteTokenizer(2)(["ab"]).tokens.tolist() == [[1, 0]]
    with pytest.raises(ConfigError, match=r"tokenizer_name='brt' is none of .*did you mean 'bert'"):
        Vocabulary("brt", b"")


def test_the_vocabulary_must_be_of_the_weights(bert):
    tokenizers.check_vocabulary(bert, 17, "weights.npz")
    with pytest.raises(CheckpointError) as caught:
        tokenizers.check_vocabulary(bert, 30_522, "weights.npz")
    assert str(caught.value).startswith(
        "vocab.txt: has 17 tokens, but weights.npz embeds 30,522; use the vocabulary"
    )


@pytest.mark.parametrize("kind", ["bert", "sentencepiece"])
def test_without_the_extra_one_line_says_so(monkeypatch, kind):
    for name in ("tokenizers", "sentencepiece"):
        monkeypatch.setitem(sys.modules, name, None)
    one_line = r"^a tokenizer needs \w+, which cannot be imported \(.+\): pip .+\[lit\]'$"
    with pytest.raises(ConfigError, match=one_line):
        tokenizers.make_tokenizer(Vocabulary(kind, b"x"), 4)


def test_a_vocabulary_from_a_file_makes_the_same_tokenizer_again(bert, tmp_path):
    copy = tmp_path / bert.vocabulary.file_name
    copy.write_bytes(bert.vocabulary.content)
    again = tokenizers.open_tokenizer("bert", copy, 6)
    assert again.vocabulary == bert.vocabulary
    assert again.vocabulary.digest == bert.vocabulary.digest
    texts = ["cats!", "the dog"]
    np.testing.assert_array_equal(again(texts).tokens, bert(texts).tokens)


def test_a_vocabulary_that_is_not_there_or_empty(tmp_path):
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(CheckpointError, match=r"vocab.tx: the vocabulary cannot .*'vocab.txt'"):
        read_vocabulary("bert", tmp_path / "vocab.tx")
    with pytest.raises(CheckpointError, match="is empty"):
        read_vocabulary("bert", tmp_path / "vocab.txt")
    with pytest.raises(CheckpointError, match="has the SHA-256"):
        read_vocabulary("bert", tmp_path / "vocab.txt", sha256="0" * 64)


def test_a_vocabulary_from_a_mirror(monkeypatch, tmp_path):
    location = "gs://vit_models/lit/LiT-B16B.txt"
    content = vocabularies.bert().content
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path))
    monkeypatch.delenv("VIT_JAX_OFFLINE", raising=False)
    with serve() as mirror:
        mirror.files["/copies/vit_models/lit/LiT-B16B.txt"] = Served(content)
        monkeypatch.setenv("VIT_JAX_MIRROR", f"{mirror.url}/copies")
        assert read_vocabulary("bert", location).content == content
        assert read_vocabulary("bert", location).where == location
        assert len(mirror.asked) == 1  # then it is in the cache
