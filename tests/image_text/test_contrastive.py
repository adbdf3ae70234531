"""The losses of image-text pairs: against NumPy in double precision, on any mesh, in any chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import runs
from vit_jax.errors import ConfigError
from vit_jax.image_text.contrastive import LOSSES, make_compare, rows_at_once
from vit_jax.mesh import BATCH_AXES, make_mesh

BATCH, WIDTH = 64, 12
SCALE, BIAS = 7.0, -3.0
MESHES = {"one device": None, "data": (8, 1, 1), "both": (2, 4, 1), "tensor": (4, 1, 2)}


def _pairs(absent=()):
    draw = np.random.default_rng(0)
    images, texts = (draw.normal(size=(BATCH, WIDTH)) for _ in range(2))
    texts += images  # some do find each other
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    mask = np.ones(BATCH)
    mask[list(absent)] = 0
    return images.astype(np.float32), texts.astype(np.float32), mask.astype(np.float32)


def _reference(loss, images, texts, mask):
    """Returns (loss, accuracy) of the pairs that are there, in double precision."""
    here = mask > 0
    images, texts = images[here].astype(np.float64), texts[here].astype(np.float64)
    logits = SCALE * images @ texts.T + BIAS
    hits = float((logits.argmax(1) == np.arange(len(logits))).mean())
    if loss == "sigmoid":
        signs = 2 * np.eye(len(logits)) - 1
        return float(np.log1p(np.exp(-signs * logits)).sum() / len(logits)), hits
    own = np.diag(logits)
    rows = np.log(np.exp(logits).sum(1)) - own
    columns = np.log(np.exp(logits).sum(0)) - own
    return float((rows.mean() + columns.mean()) / 2), hits


def _mesh(name):
    return runs.one_device_mesh() if MESHES[name] is None else make_mesh(*MESHES[name])


def _loss_and_gradient(loss, mesh, given, limit=2**20):
    """Returns the loss, the accuracy and the gradient with respect to vectors, scale and bias."""
    compare = make_compare(mesh, loss, limit)

    def value(images, texts, scale, bias, mask):
        found = compare(images, texts, scale, bias, mask)
        return found.loss, found.accuracy

    split = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    images, texts, mask = (jax.device_put(x, split) for x in given)
    scalars = jnp.float32(SCALE), jnp.float32(BIAS)
    step = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3), has_aux=True))
    (found, accuracy), gradient = step(images, texts, *scalars, mask)
    return float(found), float(accuracy), [np.asarray(one) for one in gradient]


def _numeric(loss, given, which, places, step=1e-6):
    """Returns the reference's slope along some entries of the images (0) or the texts (1)."""
    slopes = []
    for place in places:
        ends = []
        for sign in (1, -1):
            moved = [x.astype(np.float64) for x in given]
            moved[which][place] += sign * step
            ends.append(_reference(loss, *moved)[0])
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return slopes


@pytest.mark.parametrize("absent", [(), (0, 9, 63)])
@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient_are_those_of_double_precision(loss, absent):
    given = _pairs(absent)
    found, accuracy, gradient = _loss_and_gradient(loss, make_mesh(), given)
    want, hits = _reference(loss, *given)
    assert found == pytest.approx(want, rel=1e-5)
    assert accuracy == pytest.approx(hits)
    assert 0.1 < hits < 1
    places = [(1, 0), (9, 3), (40, 11)]
    for which in (0, 1):
        slopes = _numeric(loss, given, which, places)
        assert [gradient[which][p] for p in places] == pytest.approx(slopes, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("one device", 768), ("data", 2**20), ("both", 768), ("tensor", 768)],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_any_mesh_and_any_chunks_give_the_same(loss, name, limit):
    """Three rows at a time do not divide the rows of a device."""
    given = _pairs((5, 62))
    whole = _loss_and_gradient(loss, runs.one_device_mesh(), given)
    parts = _loss_and_gradient(loss, _mesh(name), given, limit)
    assert parts[:2] == pytest.approx(whole[:2], rel=1e-5)
    for got, want in zip(parts[2], whole[2], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(np.abs(want).max(), 0.1))


@pytest.mark.parametrize("loss", LOSSES)
def test_absent_pairs_have_no_gradient_and_change_nothing(loss):
    absent = (3, 17)
    given = _pairs(absent)
    found = _loss_and_gradient(loss, make_mesh(), given)
    other = [x.copy() for x in given]
    for place in absent:
        other[0][place], other[1][place] = 1.0, -1.0
    changed = _loss_and_gradient(loss, make_mesh(), other)
    assert found[:2] == changed[:2]
    for vectors in found[2][:2]:
        assert not vectors[list(absent)].any()


def test_a_batch_without_any_pair_is_no_division_by_zero():
    found, accuracy, gradient = _loss_and_gradient("softmax", make_mesh(), _pairs(range(BATCH)))
    assert (found, accuracy) == (0.0, 0.0)
    assert all(np.isfinite(one).all() for one in gradient)


@functools.cache
def _temporary_bytes(loss, limit, batch=2048):
    """Returns what loss and gradient take on a device besides arguments and results."""
    compare = make_compare(runs.one_device_mesh(), loss, limit)
    vectors, scalar = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((batch, 16), ()))
    mask = jax.ShapeDtypeStruct((batch,), jnp.float32)
    gradient = jax.grad(lambda *given: compare(*given).loss, argnums=(0, 1))
    lowered = jax.jit(gradient).lower(vectors, vectors, scalar, scalar, mask)
    analysis = lowered.compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize("loss", LOSSES)
def test_logits_never_take_more_than_they_may(loss):
    """The compiled program: all logits of 2048 pairs would be 16 MiB, a chunk here is 512 KiB."""
    whole, limit = 4 * 2048**2, 2**19
    vectors = 4 * 2048 * 16
    assert _temporary_bytes(loss, 2**30) >= whole
    # A chunk's logits, what the softmax makes of them and their gradient; a few copies of vectors.
    assert _temporary_bytes(loss, limit) <= 3 * limit + 16 * vectors < whole / 3


def test_rows_at_once():
    assert rows_at_once(256, 2048, 2**30) == 256
    assert rows_at_once(256, 2048, 2048 * 4 * 100) == 86  # three blocks of about one size
    assert rows_at_once(256, 2048, 2048 * 4) == 1
    with pytest.raises(ConfigError, match=r"config.logits_bytes=8191: .* 2048 texts .* 8192 bytes"):
        rows_at_once(256, 2048, 2048 * 4 - 1)
