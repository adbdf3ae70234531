"""Image-text models in the loop of every run: what is locked, and what is computed once."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import pair_runs, runs
from tests.data import caption_sets, pictures
from vit_jax import trees
from vit_jax.captions import CaptionTokens
from vit_jax.config import default_config
from vit_jax.data.embedded import Vectors
from vit_jax.errors import ConfigError, DataError
from vit_jax.experiment import make_model
from vit_jax.image_text import experiment as pair_experiment
from vit_jax.image_text import vectors
from vit_jax.image_text.recall import ranks_of
from vit_jax.image_text.scores import Retrieval, Retrieved, ZeroShot
from vit_jax.image_text.vectors import embedded
from vit_jax.mesh import make_mesh, replicated
from vit_jax.models.inputs import example_inputs
from vit_jax.models.lit import normalized
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.pair_model import make_pair_model
from vit_jax.pretrained import load_run
from vit_jax.recipes import merge
from vit_jax.records.loggers import Console
from vit_jax.state import abstract_state, fresh_state, initial_state
from vit_jax.step import compiled, make_train_step
from vit_jax.tasks import Contrast, build, score_run
from vit_jax.text.byte_tokens import ByteTokenizer
from vit_jax.train import train
from vit_jax.training_program import step_settings

slow = pytest.mark.slow  # compiles whole runs


def _train(config, workdir):
    return train(config, str(workdir), Console(quiet=True))


def _texts(experiment):
    assert experiment.texts is not None
    return experiment.texts


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The workdir of a classifier of the digits, to take the image tower from."""
    workdir = tmp_path_factory.mktemp("weights")
    _train(runs.tiny_config(total_steps=3, warmup_steps=1), workdir)
    return str(workdir)


def _locked(weights, **changes):
    model = {"transformer": {"dropout_rate": 0.0}}
    shape = {"model_or_filename": weights, "lock_image": True, "total_steps": 4}
    return pair_runs.tiny_config(**shape, model=model, **{"pp": {"crop": 8}, **changes})


def _started(config, mesh, monkeypatch):
    """Returns the task of a config on a mesh, its step and its first state."""
    monkeypatch.setattr(pair_experiment, "make_mesh", lambda *_: mesh)
    experiment = build(config)
    task, schedule = Contrast(experiment), make_schedule(9, 1e-2, "cosine", 2)
    optimizer, settings = make_optimizer(config, schedule), step_settings(experiment)
    settings = dataclasses.replace(settings, locked=task.beginning.locked)

    def initial(start=None):
        size = experiment.preprocess.size
        begin = task.beginning
        return initial_state(experiment.model, optimizer, size, 0, start, ema=True, beginning=begin)

    abstract = abstract_state(mesh, jax.eval_shape(initial))
    step = make_train_step(
        experiment.model, optimizer, schedule, settings, task.objective(settings)
    )
    return task, compiled(step, mesh, abstract), fresh_state(initial, abstract, task.start())


@slow
def test_one_device_and_eight_train_alike(monkeypatch):
    """The whole step, augmentation and dropout on, in chunks of two rows a device."""
    config = pair_runs.tiny_config(
        loss="sigmoid", logits_bytes=4 * 64 * 2, augment={"flip": True}, optimizer="sgd"
    )
    found = []
    for mesh in (runs.one_device_mesh(), make_mesh(4, 2, 1)):
        task, step, state = _started(config, mesh, monkeypatch)
        before, measured = jax.device_get(state.params), []
        for batch in task.experiment.train.training(0, 3):
            state, values = step(state, batch)
            numbers = {name: x for name, x in values.items() if x.ndim == 0}
            measured.append({name: float(value) for name, value in numbers.items()})
        found.append((measured, jax.device_get(state.params)))
    for got, want in zip(found[1][0], found[0][0], strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    for path, want in trees.flatten(found[0][1]).items():  # of a key's bias the gradient is 0
        got = trees.flatten(found[1][1])[path]
        np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-5, err_msg=path)
    moved = trees.difference(before, found[0][1])
    assert {"! b: values differ", "! t: values differ"} <= set(moved)
    assert "! img/embedding/kernel: values differ" in moved  # it is not locked


@pytest.fixture(scope="module")
def locked(weights, tmp_path_factory):
    """Runs with a locked tower, {name: workdir}: its vectors computed once, or for each batch."""
    root = tmp_path_factory.mktemp("locked")
    changes = {"once": {}, "each": {"precompute": False}}
    for name, change in changes.items():
        _train(_locked(weights, ema_decay=0.9, **change), root / name)
    return {name: root / name for name in changes}


@slow
def test_a_locked_tower_has_no_optimiser_state_and_keeps_its_bits(locked, weights):
    state, tower = runs.last_saved(locked["each"]).state, load_run(weights).variables["params"]
    tower = {name: part for name, part in tower.items() if name != "head"}
    assert trees.difference(tower, state["params"]["img"]) == []
    for name in ("opt_state", "ema"):
        paths = [*trees.flatten(state[name])]
        assert any("txt" in path for path in paths)
        assert not any("img" in path for path in paths)
    assert np.asarray(state["params"]["t"]) != np.float32(np.log(10.0))


def test_a_locked_tower_may_be_kept_in_half_the_bytes(weights, monkeypatch):
    config = _locked(weights, locked_dtype="bfloat16")
    task, _, state = _started(config, runs.one_device_mesh(), monkeypatch)
    kinds = {path: str(leaf.dtype) for path, leaf in trees.flatten(state.params).items()}
    assert {kind for path, kind in kinds.items() if path.startswith("img")} == {"bfloat16"}
    assert {kind for path, kind in kinds.items() if path.startswith("txt")} == {"float32"}
    outcomes = task.evaluator(task.experiment)(state.eval_variables())
    assert np.isfinite(outcomes.summary()["loss"])


@slow
def test_vectors_computed_once_train_as_images_do(locked):
    once, each = (runs.metrics_of(locked[name]) for name in ("once", "each"))
    for got, want in zip(once, each, strict=True):
        assert got == pytest.approx(want, rel=1e-3)
    assert "test_accuracy" in once[-1]


def test_vectors_are_computed_once_and_anew_for_anything_else(weights, monkeypatch):
    computed = []
    real = vectors._computed
    monkeypatch.setattr(vectors, "_computed", lambda *given: computed.append(1) or real(*given))

    def runs_with(seed=0, **changes):
        computed.clear()
        experiment = build(_locked(weights, **changes))
        key = jax.random.PRNGKey(seed)
        inputs = [jnp.zeros(x.shape, x.dtype) for x in example_inputs(experiment.model, (8, 8))]
        variables = jax.jit(experiment.model.init, out_shardings=replicated(experiment.mesh))
        embedded(experiment, variables(key, *inputs), lambda _: None)
        return len(computed)

    assert runs_with(seed=7) == 2  # of train and test
    assert runs_with(seed=7) == 0
    assert runs_with(seed=8) == 2
    assert runs_with(seed=7, pp={"mean": (0.4, 0.5, 0.5)}) == 2
    assert runs_with(seed=7, pp={"train": "test"}) == 0  # the same images, by another name


def test_an_image_without_vector_is_replaced_by_the_next():
    readable = np.array([False, True, False, False, True, False])
    vectors = Vectors(np.zeros((6, 2), np.float32), readable)
    assert vectors.stand_ins().tolist() == [1, 1, 4, 4, 4, 1]


def _recalls(ranks):
    """Returns recall at 1, 5 and 10, a row each way."""
    return np.reshape(list(ranks.summary().values()), (2, 3))


def test_recalls_are_those_of_a_sort():
    draw = np.random.default_rng(0)
    images = normalized(jnp.asarray(draw.normal(size=(30, 4))))
    owners = np.sort(np.concatenate([np.arange(30), draw.integers(0, 30, 40)]))
    texts = normalized(jnp.asarray(np.asarray(images)[owners] + draw.normal(size=(70, 4))))
    near = np.asarray(texts, np.float64) @ np.asarray(images, np.float64).T
    expected = []
    for k in (1, 5, 10):
        to_text = [(owners[np.argsort(-near[:, i])[:k]] == i).any() for i in range(30)]
        to_image = [owners[j] in np.argsort(-near[j])[:k] for j in range(70)]
        expected.append((np.mean(to_text), np.mean(to_image)))
    found = _recalls(ranks_of(np.asarray(images), np.asarray(texts), owners))
    np.testing.assert_allclose(found, np.transpose(expected))
    assert 0 < found[0, 0] < found[0, 1] < 1


def test_zero_shot_scores_are_those_of_the_towers(monkeypatch):
    config = pair_runs.tiny_config()
    task, _, state = _started(config, runs.one_device_mesh(), monkeypatch)
    experiment, variables = task.experiment, state.eval_variables()
    outcomes = ZeroShot(experiment)(variables)
    source = experiment.test.source
    images = np.stack([source[i][0] for i in range(len(source))])
    pixels = experiment.preprocess.normalize(jnp.asarray(images))
    classes = []
    for name in source.class_names:
        lines = [template.replace("{}", name) for template in _texts(experiment).templates]
        tokens = jnp.asarray(_texts(experiment).tokenizer(lines).tokens)
        found: Any = experiment.model.apply(variables, None, tokens)
        classes.append(found[1].mean(0))
    logits = experiment.model.apply(variables, pixels)[0] @ normalized(jnp.stack(classes)).T
    assert outcomes.predicted.tolist() == np.asarray(logits).argmax(1).tolist()
    assert outcomes.summary()["accuracy"] == (np.asarray(logits).argmax(1) == source.labels).mean()


def _caption_config(folder, **changes):
    shape = {"dataset": str(folder), "captions": "files", "batch": 8, "batch_eval": 8}
    return pair_runs.tiny_config(**{**shape, "total_steps": 4, **changes})


@pytest.fixture
def captioned(tmp_path):
    folder = tmp_path / "captioned"
    caption_sets.text_folder(folder, 12, per_image=2)
    return caption_sets.text_folder(folder, 6, split="test", per_image=3)


@slow
def test_a_run_on_captions_is_scored_by_retrieval_from_the_workdir_alone(captioned, tmp_path):
    (captioned / "test" / "002.txt").unlink()
    (captioned / "train" / "003.txt").write_text("\n")
    workdir = tmp_path / "run"
    config = _caption_config(captioned, bad_images="skip", report=True)
    result = _train(config, workdir)
    assert isinstance(result.outcomes, Retrieved)
    assert (result.outcomes.scored, result.outcomes.skipped) == (6, 1)
    assert result.scores is not None
    assert result.scores["text_to_image_recall_10"] == 1.0  # there are five
    assert score_run(load_run(workdir)).summary() == result.scores
    assert json.loads((workdir / "report" / "scores.json").read_text()) == result.scores
    assert (workdir / "report" / "similarity.png").stat().st_size > 5000
    page = (workdir / "report" / "index.html").read_text()
    assert "recall@5" in page
    assert "Not drawn" not in page


def test_a_missing_caption_is_an_error_with_its_path(captioned):
    (captioned / "train" / "003.txt").unlink()
    with pytest.raises(DataError, match=r"train/003.png: has no caption"):
        list(build(_caption_config(captioned)).train.training(0, 2))


def test_retrieval_takes_every_caption_of_every_image(captioned, monkeypatch):
    config = _caption_config(captioned)
    task, _, state = _started(config, runs.one_device_mesh(), monkeypatch)
    experiment, variables = task.experiment, state.eval_variables()
    found = Retrieval(experiment)(variables)
    source = _texts(experiment).test
    lines = [source.captions(i)[j] for i in range(6) for j in range(3)]
    assert lines[4] == "image 1, line 1"
    tokens = jnp.asarray(_texts(experiment).tokenizer(lines).tokens)
    pixels = np.stack([
        np.asarray(experiment.preprocess.pixels(pictures.noise(8, 9, seed=i)))
        for i in range(6)
    ])  # fmt: skip
    images = experiment.preprocess.normalize(jnp.asarray(pixels))
    both: Any = experiment.model.apply(variables, images, tokens)
    zimg, ztxt, _ = both
    expected = ranks_of(np.asarray(zimg), np.asarray(ztxt), np.repeat(np.arange(6), 3))
    np.testing.assert_array_equal(found.ranks.texts_of_images, expected.texts_of_images)
    np.testing.assert_array_equal(found.ranks.images_of_texts, expected.images_of_texts)


def test_batches_hold_the_tokens_of_the_captions_drawn(captioned):
    experiment = build(_caption_config(captioned))
    texts = _texts(experiment)
    for batch in experiment.train.training(1, 3):
        rows = {name: np.asarray(batch[name]) for name in ("epoch", "label", "index", "tokens")}
        drawn = zip(rows["epoch"].tolist(), rows["index"].tolist(), strict=True)
        lines = [texts.train.caption(0, epoch, index) for epoch, index in drawn]
        assert (rows["label"] == rows["index"]).all()
        np.testing.assert_array_equal(rows["tokens"], texts.tokenizer(lines).tokens)


def test_texts_that_are_cut_are_counted_and_told_once(captioned, caplog):
    pairs = _texts(build(_caption_config(captioned))).train
    tokens = CaptionTokens(pairs, ByteTokenizer(6), 0)
    assert tokens.of(["abc", "abcdefg", "abc", "abcdefg"]).shape == (4, 6)
    tokens.of(["xyzuvw"])
    assert tokens.clipped == 2
    assert caplog.text.count("are cut: 1 of the 2 texts") == 1


def test_byte_tokens():
    found = ByteTokenizer(8)(["Aé", "", "abcdefg"])
    assert found.tokens.tolist() == [
        [1, 99, 0xC3 + 2, 0xA9 + 2, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 99, 100, 101, 102, 103, 104, 0],
    ]
    assert found.clipped == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lock_image": True}, r"config.lock_image=True: the image tower has no weights"),
        ({"accum_steps": 2}, r"config.accum_steps=2 and config.task='contrast'"),
        ({"augment": {"mixup": 0.2}}, r"config.augment.mixup=0.2 .*: a mixture .* has no caption"),
        ({"sampling": "balanced"}, r"config.sampling='balanced' .*: pairs have no classes"),
        ({"text": {"vocabulary": "a.txt"}}, r"config.text.vocabulary='a.txt' .* 'bytes' has none"),
        ({"text": {"num_heads": 3}}, r"config.text.hidden_size=16 must be divisible by"),
        ({"pp": {"from_data": True}}, r"config.pp.from_data=True and config.task='contrast'"),
    ],
)
def test_settings_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        _train(pair_runs.tiny_config(**changes), tmp_path)


def test_the_image_tower_must_be_a_transformer():
    config = pair_runs.tiny_config().copy_and_resolve_references().unlock()
    config.model = merge(default_config(), {"model": {"model_name": "Mixer-B_16"}}, "tests").model
    with pytest.raises(ConfigError, match=r"the image tower must be a Vision Transformer"):
        make_pair_model(config, 100)


def test_other_commands_know_classifiers_alone():
    with pytest.raises(ConfigError, match=r"config.task='contrast': this command knows"):
        make_model(pair_runs.tiny_config(), 10)
