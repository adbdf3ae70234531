"""Plans: their formulas against programs that XLA partitioned, and against plain arithmetic."""

import collections

import jax
import jax.numpy as jnp
import optax
import pytest

from tests import runs
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.preprocess import Preprocess
from vit_jax.experiment import make_model
from vit_jax.mesh import make_mesh, paper_mesh
from vit_jax.optim import make_optimizer
from vit_jax.planning.collectives import step_collectives
from vit_jax.planning.partitioned import collective_bytes
from vit_jax.planning.plan import shapes_of_state, work_of
from vit_jax.step import StepSettings, compiled, make_train_step

CLASSES = 16
TRANSFORMER = {
    "num_layers": 2,
    "num_heads": 8,
    "mlp_dim": 512,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}


def config(transformer=None, **changes):
    transformer = {**TRANSFORMER, **(transformer or {})}
    return runs.tiny_config(
        pp={"crop": 32},
        model={"patches": {"size": (8, 8)}, "hidden_size": 128, "transformer": transformer},
        augment={"rotate": 0.0, "shift": 0.0, "mixup": 0.0},
        num_classes=CLASSES,
        dtype="float32",
        **{"batch": 32, **changes},
    )


def partitioned(settings, mesh):
    """The step of a config, compiled for a mesh of devices that exist."""
    model, size = make_model(settings, CLASSES), settings.pp.crop
    parts = StepSettings(
        CLASSES, Preprocess((size, size)), Augmentation(), accum_steps=settings.accum_steps
    )
    schedule = optax.constant_schedule(1e-3)
    step = make_train_step(model, make_optimizer(settings, schedule), schedule, parts)
    state = shapes_of_state(settings, model, mesh)
    row = jax.ShapeDtypeStruct((settings.batch,), jnp.int32)
    images = jax.ShapeDtypeStruct((settings.batch, size, size, 3), jnp.uint8)
    batch = {"image": images, "label": row, "epoch": row, "index": row}
    return compiled(step, mesh, state).lower(state, batch).compile()


def formula(settings, sizes):
    """{(kind, axis): bytes} by the formula, as `collective_bytes` has them."""
    model = make_model(settings, CLASSES)
    found = collections.Counter()
    for one in step_collectives(model, (32, 32), paper_mesh(sizes), work_of(settings)):
        found["gather" if one.kind == "all-gather" else "sum", one.axis] += one.bytes
    return found


REMAT = {"remat": "nothing_saveable"}
MERGED = {"attention": {"merged_qkv": True}}


@pytest.mark.parametrize(
    ("sizes", "changes"),
    [
        ((8, 1, 1), {}),
        ((1, 8, 1), {}),
        ((1, 1, 8), {}),
        ((1, 1, 8), {"transformer": MERGED}),
        ((1, 8, 1), {"accum_steps": 2}),
        ((1, 8, 1), {"transformer": REMAT}),
        ((1, 1, 8), {"transformer": REMAT}),
        ((1, 8, 1), {"transformer": REMAT, "accum_steps": 2}),
        ((1, 8, 1), {"batch": 8}),
        ((2, 2, 2), {"batch": 64}),
        ((2, 2, 2), {"batch": 128}),
    ],
)
def test_the_formula_gives_the_bytes_that_the_partitioned_program_exchanges(sizes, changes):
    settings, mesh = config(**changes), make_mesh(*sizes)
    program = partitioned(settings, mesh)
    found = collective_bytes(program.as_text(), dict(mesh.shape))
    wanted = formula(settings, sizes)
    print(sizes, changes, "\n", dict(wanted), "\n", found)
