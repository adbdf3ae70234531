"""What the page shows, without a page: the same as `vit_jax predict`, of whatever comes."""

import zlib

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.data import pictures
from tests.demo.models import opened
from vit_jax import trees
from vit_jax.data.preprocess import opened as read_image
from vit_jax.demo.viewing import Viewer, overlay
from vit_jax.demo.visits import Visits
from vit_jax.errors import CheckpointError, ConfigError, DataError
from vit_jax.models.pruning import prune_heads
from vit_jax.pictures.attention import laid_over
from vit_jax.predict import predict
from vit_jax.prediction.answers import answer
from vit_jax.prediction.overlays import Overlays

PHOTO = pictures.noise(40, 50)


@pytest.fixture(scope="module")
def trained():
    return opened()


@pytest.fixture(scope="module")
def viewer(trained):
    return Viewer(trained, "folder/weights.npz", top=3)


def test_the_facts_are_the_models(viewer):
    facts = viewer.facts
    assert (facts.source, facts.size, facts.classes) == ("weights.npz", (32, 32), 5)
    assert (facts.heads, facts.rollout, facts.missing) == ((2, 2), True, ())
    assert facts.reads == "the class token"


def test_layers_and_heads_are_those_of_the_class_token(trained, viewer):
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    pixels = trained.preprocess.normalize(jax.numpy.asarray(view.image)[None])
    _, seen = jax.jit(lambda v, x: trained.model.apply(v, x, outputs=("attention",)))(
        trained.variables, pixels
    )
    for layer in range(2):
        first = np.asarray(seen["attention"][layer])[0, :, 0, 1:].reshape(2, 4, 4)
        for head in range(2):
            shown = overlay(view, layer + 1, head + 1)
            np.testing.assert_allclose(shown, laid_over(view.image, first[head]), atol=1)
        np.testing.assert_allclose(
            overlay(view, layer + 1), laid_over(view.image, first.mean(0)), atol=1
        )
    drawn = [overlay(view), *(overlay(view, a, b) for a in (1, 2) for b in (None, 1, 2))]
    assert len({one.tobytes() for one in drawn}) == 7


@pytest.mark.parametrize(
    ("layer", "head", "says"),
    [
        (3, None, "layer=3: the model has layers 1 to 2"),
        (0, None, "layer=0"),
        (1, 3, "head=3: layer 1 has heads 1 to 2"),
        (1, 0, "head=0"),
        (None, 1, "name a layer"),
    ],
)
def test_what_is_not_there_is_refused(layer, head, says, viewer):
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    with pytest.raises(ConfigError, match=says):
        overlay(view, layer, head)


def test_a_photograph_gets_the_classes_and_the_overlay_of_predict(trained, viewer, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(pictures.encoded(PHOTO))
    view = viewer.view(path.name, path.read_bytes())
    (found,) = predict(trained, [str(path)], top=3)
    assert view.classes == tuple(zip(found.classes, found.probabilities, strict=True))
    drawn = Overlays(tmp_path / "seen", trained)
    for answers in answer(trained, [str(path)]):
        drawn.add(answers)
    with Image.open(tmp_path / "seen" / "photo.png") as picture:
        seen, dark = np.split(np.asarray(picture), 2, axis=1)
    assert (view.image == seen).all()
    # Batches of one and of four round their sums in different orders.
    np.testing.assert_allclose(overlay(view).astype(int), dark, atol=1)


def _turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return pictures.encoded(pictures.smooth(40, 60), "JPEG", exif=exif)


def _animated() -> bytes:
    frames = [Image.fromarray(pictures.noise(20, 30, seed)) for seed in range(3)]
    return pictures.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


KINDS = {
    "turned.jpg": _turned(),
    "inks.jpg": pictures.encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    "animated.gif": _animated(),
    "grey.png": pictures.encoded(Image.fromarray(PHOTO).convert("L")),
    "clear.png": pictures.encoded(Image.fromarray(PHOTO).convert("RGBA")),
    "lies.txt": pictures.encoded(PHOTO, "WEBP"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_image_is_seen_as_predict_sees_it(name, trained, viewer, tmp_path):
    (tmp_path / name).write_bytes(KINDS[name])
    view = viewer.view(name, KINDS[name])
    assert (view.image == trained.preprocess.pixels(read_image(tmp_path / name))).all()
    assert len(view.classes) == 3


def _bomb() -> bytes:
    """The header of a PNG of 60,000 × 60,000 pixels, which would take 11 GB."""
    small = bytearray(pictures.encoded(PHOTO))
    small[16:24] = (60_000).to_bytes(4, "big") * 2
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    return bytes(small)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image of a known format"),
        (b"just a text", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (pictures.encoded(PHOTO)[:900], "not a readable image"),
        (_bomb(), "its header claims more than 134,217,728 pixels; make it smaller"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(content, says, viewer):
    with pytest.raises(DataError, match=says) as error:
        viewer.view("it.png", content)
    assert str(error.value).startswith("it.png: ")
    assert "\n" not in str(error.value)


def test_a_mixer_shows_its_classes_and_says_that_it_has_no_attention():
    viewer = Viewer(opened("Mixer-B_32"), "mixer.npz")
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    assert len(view.classes) == 5
    assert viewer.facts.missing == ("No attention is drawn: a MlpMixer has no attention.",)
    assert (viewer.facts.heads, viewer.facts.rollout) == ((), False)
    with pytest.raises(ConfigError, match="no attention"):
        overlay(view)


@pytest.mark.parametrize(
    ("fields", "says", "rollout"),
    [
        ({"pool": "attention"}, "its pooling keeps no weights", False),
        ({"classifier": "gap"}, "there is no class token", True),
        ({"pool": "sequence"}, "there is no class token", True),
    ],
)
def test_pooling_that_tells_less_is_said_to(fields, says, rollout):
    viewer = Viewer(opened(**fields), "weights.npz")
    (sentence,) = viewer.facts.missing
    assert says in sentence
    assert (viewer.facts.heads, viewer.facts.rollout) == ((), rollout)
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    assert len(view.classes) == 5
    if rollout:
        assert (overlay(view) <= view.image).all()
    with pytest.raises(ConfigError):
        overlay(view, 1)


def test_a_backbone_shows_attention_and_names_no_classes():
    viewer = Viewer(opened(classes=None), "weights.npz")
    assert viewer.facts.missing == ("The weights have no head: they name no classes.",)
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    assert view.classes == ()
    assert overlay(view, 2, 1).shape == (32, 32, 3)


def test_logits_for_each_token_are_refused_at_the_start():
    with pytest.raises(CheckpointError, match="logits for each token"):
        Viewer(opened(classifier="unpooled"), "weights.npz")


def test_pruned_layers_offer_the_heads_that_they_have(trained):
    params = prune_heads(trained.variables["params"], {1: [0]})
    pruned = trained.__class__(**{**vars(trained), "variables": {"params": params}})
    viewer = Viewer(pruned, "weights.npz")
    assert viewer.facts.heads == (2, 1)
    view = viewer.view("photo.png", pictures.encoded(PHOTO))
    assert (overlay(view, 2, 1) == overlay(view, 2)).all()
    assert trees.count(params) < trees.count(trained.variables["params"])


def test_visits_are_kept_apart_and_the_oldest_are_forgotten(viewer):
    views = [viewer.view("it", pictures.noise(32, 32, seed)) for seed in range(4)]
    visits = Visits(most=2)
    first, second = visits.add(views[0]), visits.add(views[1])
    assert first != second
    assert min(len(first), len(second)) >= 32
    assert visits.find(first) is views[0]  # so that the second is now the oldest
    third = visits.add(views[2])
    assert visits.find(third) is views[2]
    fourth = visits.add(views[3], instead=third)
    assert visits.find(first) is views[0]
    assert visits.find(fourth) is views[3]
    for gone in (second, third, "", "guessed"):
        with pytest.raises(DataError, match="choose it again"):
            visits.find(gone)
