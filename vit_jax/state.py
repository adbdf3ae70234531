"""All that a training step reads and writes, as one tree."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import AbstractMesh, Mesh

from vit_jax import trees
from vit_jax.mesh import sent, state_sharding
from vit_jax.models.inputs import example_inputs
from vit_jax.runtime import compiler


class TrainState(struct.PyTreeNode):
    """The state after `step` steps, or a tree of its shapes, or of its shardings.

    Attributes:
      step: steps taken, an int32 scalar.
      params: float32 parameters of the model; those of a locked part may be bfloat16.
      batch_stats: running statistics of BatchNorm layers; empty where there are none.
      opt_state: what Optax keeps.
      ema: running average of the `params` that are trained; empty where it is off.
    """

    step: trees.Tree
    params: trees.Tree
    batch_stats: trees.Tree
    opt_state: trees.Tree
    ema: trees.Tree

    def eval_variables(self) -> dict[str, trees.Tree]:
        """Returns what the model is evaluated with: the averaged parameters where there are any."""
        return {"params": {**self.params, **self.ema}, "batch_stats": self.batch_stats}


class Beginning(NamedTuple):
    """How a state begins, besides the model's own initial values.

    Attributes:
      values: {name: first value} of parameters of shape (1,), some of which the model lacks.
      locked: names of the parts of the parameters that are not trained.
      locked_dtype: what these are kept in.
    """

    values: Mapping[str, float] = MappingProxyType({})
    locked: tuple[str, ...] = ()
    locked_dtype: str = "float32"


AS_THE_MODEL = Beginning()


def parted(params: trees.Tree, locked: Collection[str]) -> tuple[trees.Tree, trees.Tree]:
    """Returns the parameters that are trained, and the parts of these names, which are not."""
    trained = {name: part for name, part in params.items() if name not in locked}
    return trained, {name: params[name] for name in locked}


def initial_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_size: tuple[int, int],
    seed: int,
    start: Mapping[str, trees.Tree] | None = None,
    *,
    ema: bool = False,
    beginning: Beginning = AS_THE_MODEL,
) -> TrainState:
    """Returns the state at step 0; to be called under `jit` or `eval_shape`.

    Args:
      model, optimizer: those of the run.
      image_size: (height, width) in pixels.
      seed: of the initial values.
      start: variables that take the place of initial values: pretrained ones, of all parameters
        or of whole parts of them.
      ema: whether a running average of the parameters is kept.
      beginning: what else there is to say.

    Raises:
      ValueError: the model does not fit together, or not the image size.
    """
    inputs = [jnp.zeros(each.shape, each.dtype) for each in example_inputs(model, image_size)]
    # A key of the older kind: it gives the official initial values for the same seed.
    variables = model.init(jax.random.PRNGKey(seed), *inputs, train=False)
    own = {name: jnp.full((1,), x, jnp.float32) for name, x in beginning.values.items()}
    variables = {**variables, "params": {**variables["params"], **own}}
    for name, given in (start or {}).items():
        variables[name] = {**variables[name], **given} if name == "params" else given
    trained, locked = parted(variables["params"], beginning.locked)
    locked = jax.tree.map(lambda x: x.astype(beginning.locked_dtype), locked)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params={**trained, **locked},
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(trained),
        ema=jax.tree.map(jnp.copy, trained) if ema else {},
    )


def abstract_state(mesh: Mesh | AbstractMesh, state: TrainState) -> TrainState:
    """Returns the shape, dtype and sharding of every leaf of a state of arrays or shapes."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_sharding(mesh, state),
    )


def fresh_state(
    initial: Callable[[Mapping[str, trees.Tree] | None], TrainState],
    abstract: TrainState,
    start: Mapping[str, trees.Tree] | None = None,
) -> TrainState:
    """Returns the state at step 0; each device makes, or is sent, its own share and no more.

    Args:
      initial: `initial_state` with all arguments but `start`.
      abstract: as `abstract_state` gives it.
      start: pretrained variables, in the memory of every process.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    if start is not None:
        start = {
            name: {
                part: jax.tree.map(sent, below, getattr(shardings, name)[part])
                for part, below in tree.items()
            }
            for name, tree in start.items()
            if tree
        }
    return jax.jit(initial, out_shardings=shardings, compiler_options=compiler.for_one_run())(start)
