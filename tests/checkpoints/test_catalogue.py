"""The published weights: every entry is complete, and says what models and downloads understand."""

import re

import pytest

from tests.golden import load_json
from vit_jax.checkpoints import locations
from vit_jax.checkpoints.catalogue import (
    Published,
    list_published,
    matching,
    pretrained_path,
    published,
    row,
)
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.models.mlp import ACTIVATIONS
from vit_jax.models.zoo import create_model, list_models

ENTRIES = list_published()
NAMES = [entry.name for entry in ENTRIES]


def test_names_and_aliases_belong_to_one_entry_each() -> None:
    every = [name for entry in ENTRIES for name in (entry.name, *entry.aliases)]
    assert len(set(every)) == len(every)
    assert sorted(NAMES) == NAMES
    for entry in ENTRIES:
        for name in (entry.name, *entry.aliases, f"{entry.aliases[-1]}.npz"):
            assert published(name) is entry


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_an_entry_is_complete(entry: Published) -> None:
    assert re.fullmatch(r"[a-z0-9_]+_\d+\.[a-z0-9_]+", entry.name)
    assert f"_{entry.image_size}." in entry.name
    assert entry.architecture is None or entry.architecture in list_models()
    create_model(entry.architecture, entry.num_classes, **entry.fields)
    assert entry.data in ("ImageNet-1k", "ImageNet-21k", "ImageNet-21k, then ImageNet-1k")
    assert entry.num_classes == (21843 if entry.data == "ImageNet-21k" else 1000)
    assert (entry.accuracy is None) == (entry.accuracy_source is None)
    assert entry.accuracy is None or (70 < entry.accuracy < 90 and entry.num_classes == 1000)
    assert entry.activation in ACTIVATIONS
    assert entry.epsilon == 1e-6
    assert entry.licence == "Apache-2.0"
    assert entry.licence_source


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_its_preparation_can_be_done(entry: Published) -> None:
    preparation = entry.preparation
    assert preparation.size == (entry.image_size, entry.image_size)
    assert preparation.resize is None or preparation.resize >= entry.image_size
    assert preparation.interpolation in ("bilinear", "bicubic")
    assert len(preparation.mean) == len(preparation.std) == 3
    official = any(source.url.startswith("gs://") for source in entry.sources)
    if official:
        assert (preparation.resize, preparation.interpolation) == (None, "bilinear")
        assert preparation.mean == preparation.std == (0.5, 0.5, 0.5)
        assert entry.activation == "gelu_tanh"


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_its_sources_are_locations_of_safe_files(entry: Published) -> None:
    assert entry.sources
    assert entry.sources[0].head or entry.num_classes == 21843
    assert any(source.head for source in entry.sources)
    for source in entry.sources:
        assert locations.scheme(source.url) in ("gs", "hf")
        assert locations.web_url(source.url).startswith("https://")
        assert source.url.endswith((".npz", ".safetensors"))
        assert source.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        if source.url.startswith("gs://"):
            assert re.match(r"gs://(vit|mixer)_models/", source.url)


def test_augreg_files_are_of_the_architecture_and_resolution_they_say() -> None:
    checked = 0
    for entry in ENTRIES:
        for stem in (alias for alias in entry.aliases if re.match(r"[RSBLT]\w*-i", alias)):
            model, data = stem.split("-")[:2]
            fine_tuned = re.search(r"--imagenet2012.*res_(\d+)", stem)
            bare = (entry.architecture or "").replace("ViT-", "").replace("+", "_")
            assert model == bare, entry.name
            assert entry.image_size == (int(fine_tuned[1]) if fine_tuned else 224)
            assert entry.data.startswith({"i21k": "ImageNet-21k", "i1k": "ImageNet-1k"}[data])
            assert (entry.num_classes == 1000) == bool(fine_tuned)
            checked += 1
    assert checked == 46


def test_pre_logits_are_as_wide_as_the_model() -> None:
    models = load_json("official_models")
    wide = [entry for entry in ENTRIES if "representation_size" in entry.fields]
    assert len(wide) == 9
    for entry in wide:
        assert entry.architecture is not None
        config = models[entry.architecture]["config"]
        assert entry.fields["representation_size"] == config["hidden_size"]


def test_an_unknown_name_is_one_line_with_the_nearest() -> None:
    with pytest.raises(CheckpointError) as error:
        published("vit_base_patch16_224.augreg_in22k")
    assert str(error.value).startswith(
        "pretrained weights 'vit_base_patch16_224.augreg_in22k' are unknown; did you mean "
        "'vit_base_patch16_224.augreg_in21k'?"
    )


@pytest.mark.parametrize(
    ("directory", "name", "path"),
    [
        ("gs://vit_models/imagenet21k", "ViT-B_16", "gs://vit_models/imagenet21k/ViT-B_16.npz"),
        ("weights/", "Mixer-B_16", "weights/Mixer-B_16.npz"),
        (".", "R50+ViT-B_16.npz", "./R50+ViT-B_16.npz"),
        (
            "gs://vit_models/augreg",
            "R_Ti_16",
            "gs://vit_models/augreg/R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0.npz",
        ),
        (
            "d",
            "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0",
            "d/B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0.npz",
        ),
    ],
)
def test_pretrained_dir_and_model_or_filename_mean_what_they_meant(
    directory: str, name: str, path: str
) -> None:
    assert pretrained_path(directory, name) == path


def test_every_recommended_model_has_one_checkpoint() -> None:
    models = "Ti_16 S_16 B_16 L_16 S_32 B_32 R_Ti_16 R26_S_32 R50_L_32".split()
    for model in models:
        path = pretrained_path("d", model)
        assert path.startswith(f"d/{model}-i21k-300ep-")
        assert "--imagenet2012" not in path, "fine-tuned already"
    with pytest.raises(CheckpointError, match=r"'B_8': no checkpoint is recommended for it"):
        pretrained_path("d", "B_8")
    assert sum(entry.recommended for entry in ENTRIES) == 2 * len(models)


def test_a_row_says_it_in_short() -> None:
    assert row(published("vit_tiny_patch16_384.augreg_in21k_ft_in1k")) == (
        "vit_tiny_patch16_384.augreg_in21k_ft_in1k*",
        "ViT-Ti_16",
        "21k+1k",
        "384",
        "1000",
        "78.2",
        "hf gs",
    )
    assert row(published("mixer_s8_224.gsam_in1k"))[1] == ""


@pytest.mark.parametrize(
    ("pattern", "count"),
    [(None, len(ENTRIES)), ("deit", 4), ("DEIT_T", 1), ("*_384.*fb*", 1), ("R50+ViT-L_32", 6)],
)
def test_a_pattern_chooses(pattern: str | None, count: int) -> None:
    found = matching(pattern)
    assert len(found) == count
    assert [entry.name for entry in found] == sorted(entry.name for entry in found)


def test_a_pattern_without_a_match_is_one_line_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'deit_tiny_patch16_224.fb_in1k'"):
        matching("deit_tiny_patch16_224.fb_in2k")
