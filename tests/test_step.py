"""The training step: official numbers, accumulation, sharding, donation, overflow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from tests import golden, runs
from vit_jax import trees
from vit_jax.config import default_config
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.preprocess import Preprocess
from vit_jax.mesh import batch_sharding, make_mesh, state_sharding
from vit_jax.models import VisionTransformer
from vit_jax.optim import make_optimizer, make_schedule
from vit_jax.records import metrics
from vit_jax.settings.rules import LARGEST_RATE
from vit_jax.state import TrainState, initial_state
from vit_jax.step import StepSettings, compiled, first_inputs, make_train_step

FIELDS = {
    "patches": {"size": (4, 4)},
    "hidden_size": 16,
    "transformer": {"num_layers": 2, "num_heads": 2, "mlp_dim": 32, "dropout_rate": 0.0,
                    "attention_dropout_rate": 0.0},
}  # fmt: skip
SETTINGS = StepSettings(10, Preprocess((8, 8)), Augmentation())


def _parts(optimizer="sgd", fields=FIELDS, **config):
    settings = default_config()
    settings.update({"optimizer": optimizer, "optim_dtype": "float32", "beta2": 0.95, **config})
    schedule = make_schedule(20, 1e-2, "cosine", 2)
    model = VisionTransformer(num_classes=10, **fields)
    return model, make_optimizer(settings, schedule), schedule


def _train(settings=SETTINGS, mesh=None, steps=3, batch=16, fields=FIELDS):
    """Takes a few steps on random images, and returns the state and the metrics of each."""
    model, optimizer, schedule = _parts(fields=fields)
    mesh = mesh or runs.one_device_mesh()
    state = initial_state(model, optimizer, (8, 8), 0, ema=settings.ema_decay > 0)
    # Biases and the head start at zero; noise gives every gradient something to do.
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(noise.normal(0, 0.1, x.shape), x.dtype), state.params
    )
    state = state.replace(params=params)
    state = jax.device_put(state, state_sharding(mesh, state))
    step = compiled(make_train_step(model, optimizer, schedule, settings), mesh, state)
    generator, measured = np.random.default_rng(1), []
    for _ in range(steps):
        images = generator.integers(0, 256, (batch, 8, 8, 3), np.uint8)
        state, metrics = step(state, runs.training_batch(images, generator.integers(0, 10, batch)))
        measured.append({name: float(value) for name, value in metrics.items()})
    return state, measured


@pytest.mark.parametrize("case", ["finetune_sgd", "finetune_sgd_accum"])
def test_official_fine_tuning(case):
    recipe, arrays = golden.load_json(case), golden.load_arrays(case)
    config = default_config()
    config.grad_norm_clip = recipe["grad_norm_clip"]
    schedule = make_schedule(
        recipe["total_steps"], recipe["base_lr"], recipe["decay_type"], recipe["warmup_steps"]
    )
    optimizer = make_optimizer(config, schedule)  # the defaults are the official rule
    size = tuple(recipe["image_size"])
    model = VisionTransformer(num_classes=recipe["num_classes"], **recipe["config"])
    params = jax.tree.map(jnp.asarray, arrays["loaded"])
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), {})
    settings = StepSettings(
        recipe["num_classes"],
        dataclasses.replace(Preprocess(size), mean=(0.0,) * 3, std=(1 / 255,) * 3),
        Augmentation(),
        accum_steps=recipe["accum_steps"],
    )
    step = jax.jit(make_train_step(model, optimizer, schedule, settings))
    losses = []
    for images, labels in zip(arrays["images"], arrays["labels"], strict=True):
        state, metrics = step(state, runs.training_batch(images, labels))
        losses.append(metrics["loss"])
    np.testing.assert_allclose(losses, arrays["losses"], rtol=1e-4)
    golden.assert_close_to_largest(state.params, arrays["final"], 1e-3)


def test_accumulated_parts_give_the_gradient_of_the_whole_batch():
    whole, first = _train(steps=1)
    parts, second = _train(dataclasses.replace(SETTINGS, accum_steps=4), steps=1)
    assert first[0] == pytest.approx(second[0], rel=1e-5)
    golden.assert_close_to_largest(parts.params, whole.params, 1e-5)


@pytest.mark.parametrize(("accum_steps", "loops"), [(1, 0), (2, 1)])
def test_one_part_needs_no_loop(accum_steps, loops):
    """XLA computes gradients of convolutions slowly where they stand in one: benchmarks/LOG.md."""
    model, optimizer, schedule = _parts()
    settings = dataclasses.replace(SETTINGS, accum_steps=accum_steps)
    state = jax.eval_shape(lambda: initial_state(model, optimizer, (8, 8), 0))
    batch = runs.training_batch(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4))
    program = jax.make_jaxpr(make_train_step(model, optimizer, schedule, settings))(state, batch)
    assert [equation.primitive.name for equation in program.eqns].count("scan") == loops


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8)])
def test_any_mesh_trains_as_one_device_does(shape):
    """Dropout, augmentation and mixup on: random numbers must not depend on the mesh either."""
    fields = {**FIELDS, "transformer": {**FIELDS["transformer"], "dropout_rate": 0.2}}
    plan = Augmentation(flip=True, rotate=20.0, shift=0.2, scale=0.2, mixup=0.3)
    settings = dataclasses.replace(SETTINGS, augmentation=plan, ema_decay=0.9, accum_steps=2)
    alone, expected = _train(settings, fields=fields)
    state, measured = _train(settings, make_mesh(*shape), fields=fields)
    for got, want in zip(measured, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    golden.assert_close_to_largest(state.params, alone.params, 1e-5)


@pytest.mark.parametrize("mixed", [{"cutmix": 1.0}, {"mixup": 0.3}])
def test_any_mesh_augments_as_one_device_does(mixed):
    plan = Augmentation(crop_area=(0.2, 1.0), erase=0.7, **mixed)
    settings = dataclasses.replace(SETTINGS, augmentation=plan)
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    batch = runs.training_batch(images, np.arange(16) % settings.num_classes)
    split = jax.device_put(batch, batch_sharding(make_mesh()))
    inputs = jax.jit(lambda batch: first_inputs(settings, batch, 16))
    for got, want in zip(inputs(split), inputs(batch), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_batch_statistics_are_those_of_the_whole_batch_on_any_mesh(shape):
    fields = {**FIELDS, "stem": "conv"}
    start, _ = _train(steps=0, fields=fields)
    alone, expected = _train(fields=fields)
    state, measured = _train(mesh=make_mesh(*shape), fields=fields)
    for got, want in zip(measured, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-4)
    golden.assert_close_to_largest(state.batch_stats, alone.batch_stats, 1e-5)
    stats = trees.flatten(alone.batch_stats)
    assert len(trees.difference(start.batch_stats, alone.batch_stats)) == len(stats) == 6


def test_fsdp_and_tensor_axes_split_parameters_and_moments():
    state, _ = _train(mesh=make_mesh(2, 2, 2), steps=1)
    query = "Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"
    for tree in (state.params, state.opt_state[1].trace):
        leaf = trees.flatten(tree)[query]
        assert leaf.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor", None)
        assert leaf.addressable_shards[0].data.shape == (8, 1, 8)


def test_every_leaf_of_the_state_is_donated():
    model, optimizer, schedule = _parts()
    state = initial_state(model, optimizer, (8, 8), 0, ema=True)
    mesh = make_mesh()
    state = jax.device_put(state, state_sharding(mesh, state))
    settings = dataclasses.replace(SETTINGS, ema_decay=0.9)
    step = compiled(make_train_step(model, optimizer, schedule, settings), mesh, state)
    before = trees.flatten(state)
    batch = runs.training_batch(np.zeros((16, 8, 8, 3), np.uint8), np.zeros(16))
    step(state, batch)
    # The gradient of the class token's row and others may be zero, but no leaf stays behind.
    assert [path for path, leaf in before.items() if not leaf.is_deleted()] == []


def test_a_loss_that_is_not_finite_leaves_the_state_as_it_was():
    model, optimizer, schedule = _parts()
    state = initial_state(model, optimizer, (8, 8), 0)
    head = state.params["head"]["bias"]
    for value in (jnp.inf, jnp.nan):
        bad = state.replace(
            params={**state.params, "head": {**state.params["head"], "bias": head.at[0].set(value)}}
        )
        step = jax.jit(make_train_step(model, optimizer, schedule, SETTINGS))
        batch = runs.training_batch(np.ones((4, 8, 8, 3), np.uint8), np.arange(4))
        after, metrics = step(bad, batch)
        assert not np.isfinite(metrics["loss"])
        # The schedule goes by all steps, kept or not; its state stands last in the chain.
        assert trees.difference(after.replace(step=bad.step), bad) == [
            "! opt_state/3/count: values differ"
        ]


@pytest.mark.parametrize("what", [np.inf, np.nan, 2e9, "batch statistics"])
def test_a_result_that_is_not_finite_is_not_kept_though_the_loss_is(what):
    model, optimizer, schedule = _parts(fields={**FIELDS, "stem": "conv"})
    state = initial_state(model, optimizer, (32, 32), 0)
    if what != "batch statistics":
        schedule = optax.constant_schedule(what)
    else:  # the variance overflows, and what it divides is 0
        params = trees.map_with_path(
            lambda path, x: x * 1e30 if path == "stem/conv_0/kernel" else x, state.params
        )
        state = state.replace(params=params)
    settings = dataclasses.replace(SETTINGS, preprocess=Preprocess((32, 32)), guarded=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    step = jax.jit(make_train_step(model, optimizer, schedule, settings))
    after, metrics = step(state, runs.training_batch(images, np.arange(4)))
    assert not metrics["kept"]
    assert (
        trees.difference((after.params, after.batch_stats), (state.params, state.batch_stats)) == []
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "lamb"])
def test_no_update_overflows_within_the_limits_of_gradient_and_rate(optimizer):
    """So what `_finite` looks at before an update is all there is to look at."""
    settings = default_config()
    settings.update({"optimizer": optimizer, "grad_norm_clip": 0.0, "weight_decay": LARGEST_RATE})
    update = make_optimizer(settings, optax.constant_schedule(LARGEST_RATE)).update
    params = {"layer": {"kernel": jnp.array([1e18, -1e18, 0.0, 1e-30])}}
    state = make_optimizer(settings, optax.constant_schedule(1.0)).init(params)
    for number in (1.3e19, 1e-30, 1.3e19, 1.3e19):
        grads = {"layer": {"kernel": jnp.array([number, -number, 1e-38, 0.0])}}
        assert jnp.isfinite(optax.tree.norm(grads))
        updates, state = update(grads, state, params)
        after = optax.apply_updates(params, updates)
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after, state)))


def test_a_gpu_chooses_the_state_that_a_cpu_branches_to(monkeypatch):
    branched, found = _train(dataclasses.replace(SETTINGS, ema_decay=0.5))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chosen, measured = _train(dataclasses.replace(SETTINGS, ema_decay=0.5))
    golden.assert_close_to_largest(chosen.params, branched.params, 1e-6)
    golden.assert_close_to_largest(chosen.ema, branched.ema, 1e-6)
    assert measured == [pytest.approx(one, rel=1e-6) for one in found]
    test_a_loss_that_is_not_finite_leaves_the_state_as_it_was()


def test_average_of_the_parameters_follows_its_rule():
    settings = dataclasses.replace(SETTINGS, ema_decay=0.15)
    start, _ = _train(settings, steps=0)
    once, _ = _train(settings, steps=1)
    twice, _ = _train(settings, steps=2)
    # The decay is min(0.15, (1 + s) / (10 + s)): 0.1, then 0.15 (2/11 is more).
    expected = jax.tree.map(
        lambda e, p1, p2: 0.15 * (0.1 * e + 0.9 * p1) + 0.85 * p2,
        start.ema, once.params, twice.params,
    )  # fmt: skip
    golden.assert_close_to_largest(twice.ema, expected, 1e-5)
    assert trees.difference(twice.eval_variables()["params"], twice.ema) == []


def test_dropout_differs_from_step_to_step_and_from_part_to_part():
    """With one image repeated and no learning, only dropout can change the loss."""
    fields = {**FIELDS, "transformer": {**FIELDS["transformer"], "dropout_rate": 0.5}}
    model, optimizer, _ = _parts(fields=fields)
    state = initial_state(model, optimizer, (8, 8), 0)
    key = jax.random.key(0)
    params = jax.tree.map(lambda x: x + jax.random.normal(key, x.shape), state.params)
    state = state.replace(params=params)
    batch = runs.training_batch(np.full((4, 8, 8, 3), 90, np.uint8), np.zeros(4))

    whole, halves = (
        jax.jit(make_train_step(model, optimizer, lambda step: jnp.zeros(()), settings))
        for settings in (SETTINGS, dataclasses.replace(SETTINGS, accum_steps=2))
    )

    def loss(step, number):
        return float(step(state.replace(step=jnp.int32(number)), batch)[1]["loss"])

    assert loss(whole, 0) == loss(whole, 0)
    assert len({loss(whole, 0), loss(whole, 1), loss(halves, 0)}) == 3


def test_part_i_has_every_accum_th_row():
    from vit_jax.step import _split

    parts = _split(jnp.arange(12), 3)
    np.testing.assert_array_equal(parts, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]])


def test_mesh_axis_types_are_auto():
    assert set(make_mesh().axis_types) == {AxisType.Auto}


LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -4.0]])
SHARES = np.array([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])  # of the classes, as mixup makes them


def test_sigmoid_loss_asks_one_question_for_each_class():
    """Of a mixed image both classes are right, as DeiT III trains; the mean is NumPy's.

    Near chance the loss is log 2 for a class, where that of softmax is log 10.
    """
    chance = 1 / (1 + np.exp(-LOGITS))
    right = 0.9 * np.array([[1, 1, 0], [0, 0, 1]]) + 0.1 / 3
    expected = -(right * np.log(chance) + (1 - right) * np.log(1 - chance)).mean(-1)
    found = metrics.training_loss("sigmoid", jnp.asarray(LOGITS), jnp.asarray(SHARES), 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    _, (measured,) = _train(dataclasses.replace(SETTINGS, loss="sigmoid"), steps=1)
    _, (softmax,) = _train(steps=1)
    assert 0.5 < measured["loss"] < 1.5 < softmax["loss"]


def test_softmax_loss_takes_shares_and_spreads_the_smoothing_evenly():
    chance = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    right = 0.7 * SHARES + 0.3 / 3
    found = metrics.training_loss("softmax", jnp.asarray(LOGITS), jnp.asarray(SHARES), 0.3)
    np.testing.assert_allclose(found, -(right * np.log(chance)).sum(-1), rtol=1e-6)
