"""The released LiT models: names, places, what a name leads to."""

from pathlib import Path

import pytest

from tests.checkpoints.serving import Served, Web
from vit_jax.checkpoints import locations
from vit_jax.checkpoints.released_lit import RELEASED, matching, released
from vit_jax.checkpoints.resolve import resolve
from vit_jax.errors import CheckpointError
from vit_jax.models.zoo import list_models, model_fields


@pytest.mark.parametrize("entry", RELEASED, ids=lambda entry: entry.name)
def test_an_entry_is_a_named_model_in_the_official_bucket(entry):
    assert entry.name in list_models()
    assert model_fields(entry.name)["pp"]["tokenizer_name"] == entry.tokenizer
    for url in (entry.weights, entry.vocabulary):
        assert url.startswith(f"gs://vit_models/lit/{entry.name}.")
        assert locations.web_url(url).startswith("https://")
    ending = {"bert": ".txt", "sentencepiece": ".model"}[entry.tokenizer]
    assert entry.vocabulary.endswith(ending)
    for alias in (entry.name, entry.name.lower(), f"{entry.name}.npz", f"lit/{entry.name}"):
        assert released(alias) is entry


def test_all_models_are_there():
    assert [one.name for one in RELEASED] == [n for n in list_models() if n.startswith("LiT")]
    assert matching(None) == list(RELEASED)
    assert [one.name for one in matching("l16*")] == ["LiT-L16L", "LiT-L16S", "LiT-L16Ti"]
    assert matching("deit") == []


def test_other_names_are_none_and_a_near_one_is_told():
    assert released("ViT-B_16") is None
    assert released("little/file") is None
    with pytest.raises(CheckpointError, match=r"'LiT-B16C' are unknown; did you mean 'LiT-B16B'\?"):
        released("LiT-B16C")


def test_a_name_is_fetched_from_a_mirror(web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIT_JAX_MIRROR", f"{web.url}/copies")
    web.files["/copies/vit_models/lit/LiT-B16B_2.npz"] = Served(b"PK weights")
    path = resolve("lit_b16b_2").path
    assert path.read_bytes() == b"PK weights"
    assert path.parent == cache
