"""One training step: `state, metrics = step(state, batch)`, a pure function."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from vit_jax import nonfinite, trees
from vit_jax.data.augment_device import augment, example_keys
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.erasing import erase
from vit_jax.data.mixing import mix
from vit_jax.data.preprocess import Preprocess
from vit_jax.mesh import batch_sharding, replicated, state_sharding, with_split_batch
from vit_jax.models.batchnorm import by_running_statistics
from vit_jax.records import metrics
from vit_jax.runtime import compiler
from vit_jax.settings.rules import LARGEST_RATE
from vit_jax.state import TrainState, parted

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# Of parameters: the loss; then batch statistics, and the share of the rows that were right.
Loss = Callable[[trees.Tree], tuple[Array, tuple[trees.Tree, Array]]]
# Makes the loss of a part of a batch, from batch statistics, rows, the seed's key and the part's.
Objective = Callable[[trees.Tree, Batch, Key[Array, ""], Key[Array, ""]], Loss]

# Streams of randomness. Steps are folded into the seed's key too, so _EXAMPLES is no step's number.
_DROPOUT, _MIXING, _EXAMPLES = 0, 1, 2**31


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What a step depends on besides its model and optimiser; the config says what each means."""

    num_classes: int
    preprocess: Preprocess
    augmentation: Augmentation
    seed: int = 0
    accum_steps: int = 1
    loss: str = "softmax"
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    locked: tuple[str, ...] = ()  # parts of the parameters without gradient and optimiser state
    guarded: bool = False  # measures what `NonFiniteGuard` asks for


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    settings: StepSettings,
    objective: Objective | None = None,
) -> Step:
    """Returns the step, not yet compiled.

    What is learned is `objective`; None is to classify, the loss that the settings name.

    Its batch has `image` (b, h, w, 3) uint8, `label`, `epoch` and `index` (b,). Its metrics are
    the `loss` (nats), `accuracy`, `grad_norm` (before clipping) and `learning_rate` of the step. If
    loss, gradient or batch statistics are not finite, or the rate is beyond all measure, the state
    comes back as it was but for its step and that of the schedule.
    """

    learned = objective or classification(model, settings)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trained, locked = parted(state.params, settings.locked)
        parts = jax.tree.map(lambda x: _split(x, settings.accum_steps), batch)
        numbers = jnp.arange(settings.accum_steps)
        base = jax.random.key(settings.seed)

        def one_part(carry: tuple, part: tuple) -> tuple[tuple, None]:
            sums, stats = carry
            number, rows = part
            key = _part_key(base, state.step, number)
            loss = learned(stats, rows, base, key)
            (value, (stats, hits)), grads = jax.value_and_grad(
                lambda trained: loss({**locked, **trained}), has_aux=True
            )(trained)
            new = {"loss": value, "accuracy": hits, "grads": grads}
            return (jax.tree.map(jnp.add, sums, new), stats), None

        zeros = {"loss": 0.0, "accuracy": 0.0, "grads": jax.tree.map(jnp.zeros_like, trained)}
        carry = (zeros, state.batch_stats)
        if settings.accum_steps > 1:
            (sums, stats), _ = jax.lax.scan(one_part, carry, (numbers, parts))
        else:  # no loop: in one, XLA's gradients of convolutions are slow on CPUs
            (sums, stats), _ = one_part(carry, jax.tree.map(lambda x: x[0], (numbers, parts)))
        means = jax.tree.map(lambda x: x / settings.accum_steps, sums)
        grads = means["grads"]
        measured = {
            "loss": means["loss"],
            "accuracy": means["accuracy"],
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        finite = _finite(measured, stats)

        def updated(old: TrainState) -> TrainState:
            return _updated(optimizer, old, grads, stats, settings.ema_decay)

        after = _applied(finite, updated, state.replace(params=trained))
        after = after.replace(params={**locked, **after.params}, step=state.step + 1)
        if settings.guarded:
            leaves = jnp.stack([jnp.isfinite(optax.tree.norm(g)) for g in jax.tree.leaves(grads)])
            measured |= {nonfinite.KEPT: finite, nonfinite.FINITE_LEAVES: leaves}
        return after, measured

    return step


def _finite(measured: Metrics, batch_stats: trees.Tree) -> Array:
    """Returns whether a step's update can be made, and leads to finite values alone.

    This is known before the update, so that it can take the memory of the old state. Where the norm
    is finite, no gradient is above 2e19, the root of the largest float32; moments and the average
    are means or short sums of such numbers. So parameters could overflow by the rate alone. (A sum
    of zeros and NaNs takes a quarter of the time of asking each number.)
    """
    good = [
        jnp.isfinite(measured["loss"]),
        jnp.isfinite(measured["grad_norm"]),
        measured["learning_rate"] <= LARGEST_RATE,  # NaN is not
        *(jnp.isfinite((x * 0).sum()) for x in jax.tree.leaves(batch_stats)),
    ]
    return jnp.stack(good).all()


def _applied(
    finite: Array, update: Callable[[TrainState], TrainState], old: TrainState
) -> TrainState:
    """Returns the updated state, or the old one; the schedule counts the step either way."""

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def counted(node: Any) -> Any:
        return node._replace(count=optax.safe_increment(node.count)) if is_schedule(node) else node

    def keep(old: TrainState) -> TrainState:
        return jax.tree.map(counted, old, is_leaf=is_schedule)

    # On a CPU a branch is faster than choosing numbers, and holds no second state. A GPU's host
    # would wait for the answer, where a choice can be part of the kernels of the update.
    if jax.default_backend() == "cpu":
        return jax.lax.cond(finite, update, keep, old)
    return jax.tree.map(partial(jnp.where, finite), update(old), keep(old))


def compiled(
    step: Step, mesh: Mesh, state: TrainState, *, deterministic: bool = False
) -> jax.stages.Wrapped:
    """Returns the step under `jit`: sharded over the mesh, the state's memory used again.

    With `deterministic` a GPU, too, computes the same bits each time.
    """
    shardings = state_sharding(mesh, state)
    return jax.jit(
        with_split_batch(mesh, step),
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        compiler_options=compiler.for_steps(deterministic=deterministic),
    )


def _split(x: Array, parts: int) -> Array:
    """(b, …) → (parts, b/parts, …): part i has rows i, i + parts, …, so no row changes device."""
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)


def first_inputs(
    settings: StepSettings, batch: Batch, count: int
) -> tuple[Float[Array, "n h w 3"], Float[Array, "n k"]]:
    """Returns up to `count` images of the first step's first part, and the classes' shares."""
    rows = jax.tree.map(lambda x: _split(x, settings.accum_steps)[0], batch)
    base = jax.random.key(settings.seed)
    images, shares = _inputs(settings, rows, base, _part_key(base, 0, 0))
    return images[:count], shares[:count]


def _part_key(base: Key[Array, ""], step: Array | int, number: Array | int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(base, step), number)


def _inputs(
    settings: StepSettings, rows: Batch, base: Key[Array, ""], key: Key[Array, ""]
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b k"]]:
    """Returns augmented, normalised, mixed images, and the share of each class in them."""
    images = augmented(settings, rows, base)
    shares = jax.nn.one_hot(rows["label"], settings.num_classes)
    return mix(jax.random.fold_in(key, _MIXING), settings.augmentation, images, shares)


def augmented(settings: StepSettings, rows: Batch, base: Key[Array, ""]) -> Float[Array, "b h w 3"]:
    """Returns augmented, normalised images, not yet mixed."""
    # An example's draw follows from (seed, epoch, index); the key of the step has no part in it.
    examples = jax.random.fold_in(base, _EXAMPLES)
    keys = example_keys(examples, rows["epoch"], rows["index"])
    plan, preprocess = settings.augmentation, settings.preprocess
    images = augment(rows["image"], keys, plan, preprocess.size, antialias=preprocess.antialias)
    return preprocess.normalize(erase(images, keys, plan, preprocess.mean))


def classification(model: nn.Module, settings: StepSettings) -> Objective:
    """Returns the objective of a classifier: the mean loss of its logits, by `settings.loss`."""

    def objective(stats: trees.Tree, rows: Batch, base: Any, key: Any) -> Loss:
        images, shares = _inputs(settings, rows, base, key)
        dropout = dropout_key(key)

        def loss(params: trees.Tree) -> tuple[Array, tuple[trees.Tree, Array]]:
            with nn.intercept_methods(by_running_statistics(settings.locked)):
                logits, updates = model.apply(
                    {"params": params, "batch_stats": stats},
                    images,
                    train=True,
                    rngs={"dropout": dropout},
                    mutable=["batch_stats"],
                )
            losses = metrics.training_loss(settings.loss, logits, shares, settings.label_smoothing)
            hits = (logits.argmax(-1) == shares.argmax(-1)).mean()
            return losses.mean(), (updates.get("batch_stats", stats), hits)

        return loss

    return objective


def dropout_key(part: Key[Array, ""]) -> Key[Array, ""]:
    """Returns the key of the dropout of a part of a batch."""
    return jax.random.fold_in(part, _DROPOUT)


def _updated(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    grads: trees.Tree,
    batch_stats: trees.Tree,
    ema_decay: float,
) -> TrainState:
    """Applies the gradient, and moves the average towards the new parameters."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    # Early on the average follows faster, so that the initial values are soon forgotten.
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(
        lambda a, p: decay * a + (1 - decay) * p, state.ema, params if state.ema else {}
    )
    return state.replace(params=params, opt_state=opt_state, batch_stats=batch_stats, ema=ema)
