"""Evaluation counts every example once, whatever the batch and the devices."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

from tests import jobs, runs
from vit_jax import trees
from vit_jax.data.digits import open_digits
from vit_jax.errors import ConfigError
from vit_jax.evaluate import Evaluator, evaluate_run
from vit_jax.experiment import evaluation_feed, make_model, make_preprocess
from vit_jax.mesh import device_bytes, make_mesh, state_sharding
from vit_jax.pretrained import load_run
from vit_jax.records.loggers import Console
from vit_jax.train import train


@pytest.fixture(scope="module")
def model_and_variables():
    model = make_model(runs.tiny_config(), 10)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    keys = jax.random.split(jax.random.key(1), 2)
    head = {
        "kernel": jax.random.normal(keys[0], (16, 10)),
        "bias": jax.random.normal(keys[1], (10,)),
    }
    return model, {"params": {**variables["params"], "head": head}}


def _score(model_and_variables, batch, mesh):
    model, variables = model_and_variables
    config = runs.tiny_config(batch_eval=batch)
    preprocess = make_preprocess(config)
    feed = evaluation_feed(config, mesh, preprocess)
    return Evaluator(model, feed, preprocess)(variables).summary()


def test_score_is_that_of_scikit_learn(model_and_variables):
    model, variables = model_and_variables
    digits = open_digits("test")
    images = make_preprocess(runs.tiny_config()).normalize(jnp.asarray(digits.images))
    chances = np.asarray(jax.nn.softmax(model.apply(variables, images)), np.float64)
    chances /= chances.sum(1, keepdims=True)  # float32 sums are not quite 1, which it warns of
    scores = _score(model_and_variables, 50, make_mesh())
    assert scores["accuracy"] == accuracy_score(digits.labels, chances.argmax(1))
    assert scores["top5_accuracy"] == top_k_accuracy_score(digits.labels, chances, k=5)
    for average in ("macro", "weighted"):
        expected = f1_score(digits.labels, chances.argmax(1), average=average)
        assert scores[f"{average}_f1"] == pytest.approx(expected, abs=1e-12)
    assert scores["loss"] == pytest.approx(log_loss(digits.labels, chances), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 64, 355, 5000])
@pytest.mark.parametrize("devices", [1, 8])
def test_score_depends_neither_on_batch_nor_on_devices(model_and_variables, batch, devices):
    mesh = make_mesh() if devices == 8 else runs.one_device_mesh()
    scores = _score(model_and_variables, batch, mesh)
    expected = _score(model_and_variables, 512, make_mesh())
    assert scores == pytest.approx(expected, rel=1e-6)
    for exact in ("accuracy", "top5_accuracy", "macro_f1"):
        assert scores[exact] == expected[exact]


def test_the_remainder_is_left_out_on_request_only(model_and_variables):
    """As officially: 3 batches of 96 of the 355 digits, and no word of skipped images."""
    model, variables = model_and_variables
    config = runs.tiny_config(batch_eval=96, eval_drop_remainder=True)
    preprocess = make_preprocess(config)
    feed = evaluation_feed(config, make_mesh(), preprocess)
    scores = Evaluator(model, feed, preprocess)(variables).summary()
    digits = open_digits("test")
    images = preprocess.normalize(jnp.asarray(digits.images[:288]))
    right = np.asarray(model.apply(variables, images)).argmax(1) == digits.labels[:288]
    assert feed.scored == 288
    assert scores["accuracy"] == pytest.approx(right.mean())
    assert "skipped" not in scores


@pytest.mark.parametrize("batch", [356, 100])
def test_a_remainder_cannot_be_dropped_of_batches_that_are_never_full(batch):
    config = runs.tiny_config(batch_eval=batch, eval_drop_remainder=True)
    with pytest.raises(ConfigError, match=f"config.batch_eval={batch} with .* 355 images .* 8 dev"):
        evaluation_feed(config, make_mesh(), make_preprocess(config))


def test_average_of_parameters_is_what_is_evaluated_and_loaded(tmp_path):
    config = runs.tiny_config(ema_decay=0.9, total_steps=10)
    result = train(config, str(tmp_path), Console(quiet=True))
    trained = load_run(tmp_path)
    outcomes = evaluate_run(trained)
    assert outcomes.summary() == result.scores
    assert outcomes.scored == len(outcomes.labels) == 355
    without = load_run_params(tmp_path)
    assert not np.array_equal(
        trained.variables["params"]["head"]["kernel"], without["head"]["kernel"]
    )


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    """A run whose parameters were split along both axes; and as if they had not been."""
    workdir = tmp_path_factory.mktemp("shared")
    config = runs.tiny_config(mesh={"fsdp": 4, "tensor": 2}, total_steps=10)
    train(config, str(workdir), Console(quiet=True))
    trained = load_run(workdir)
    return trained, dataclasses.replace(trained, config=runs.tiny_config(total_steps=10))


def test_a_run_that_was_split_is_scored_in_shares(shared_run, monkeypatch):
    """What was split because it did not fit on a device is not put there whole to be scored."""
    split, whole = shared_run
    seen, call = [], Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda own, v: seen.append(v) or call(own, v))
    outcomes = evaluate_run(split)
    leaves = trees.flatten(seen[0])
    assert leaves.keys() == trees.flatten(split.variables).keys()
    for path, sharding in trees.flatten(state_sharding(make_mesh(1, 4, 2), seen[0])).items():
        for shard in leaves[path].addressable_shards:
            assert shard.data.shape == sharding.shard_shape(leaves[path].shape), path
    assert device_bytes(seen[0]) < trees.nbytes(seen[0]) / 3
    expected = evaluate_run(whole)
    assert device_bytes(seen[1]) == trees.nbytes(seen[1])
    np.testing.assert_array_equal(outcomes.predicted, expected.predicted)
    for exact in ("accuracy", "top5_accuracy", "macro_f1"):
        assert outcomes.summary()[exact] == expected.summary()[exact]


def test_two_processes_score_a_run_as_one_does(shared_run):
    """Each sees to its half of a batch, and of the parameters; the first one alone prints."""
    split, _ = shared_run
    command = ["evaluate", f"--workdir={split.workdir.root}", "--json"]
    expected = json.loads(jobs.run(1, 4, command)[0][1].splitlines()[-1])
    done = jobs.run(2, 2, command)
    assert [code for code, _ in done] == [0, 0], done
    (line,) = (line for _, output in done for line in output.splitlines() if line[:1] == "{")
    found = json.loads(line)
    assert found.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
    for exact in ("images", "accuracy", "top5_accuracy", "macro_f1", "classes"):
        assert found[exact] == expected[exact]


def load_run_params(workdir):
    """Returns the parameters that training went on with, not their average."""
    from vit_jax.checkpoints.store import Store

    with Store(workdir / "checkpoints") as store:
        restored = store.restore_subtree("params")
    assert restored is not None
    return restored.state["params"]
