"""What lies where: every leaf of every kind of model, and nothing whole by accident."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests import golden, runs
from tests.test_families import FAMILIES
from vit_jax import trees
from vit_jax.checkpoints.store import Store
from vit_jax.config import default_config
from vit_jax.errors import ConfigError
from vit_jax.experiment import build, make_model
from vit_jax.mesh import (
    check_split,
    device_bytes,
    make_mesh,
    mesh_as_trained,
    paper_mesh,
    partition,
    state_sharding,
)
from vit_jax.models import create_model
from vit_jax.optim import make_optimizer
from vit_jax.run import Run
from vit_jax.runtime.signals import StopSignals
from vit_jax.state import abstract_state, fresh_state, initial_state

NAMED = {
    "ViT-B_16": {},
    "R50+ViT-B_16": {},
    "Mixer-B_16": {},
    "cct_7_3x1_32": {},
    "ViT-S_16": {"pool": "attention", "num_registers": 4},
    "ViT-S_32": {"transformer": {"mlp": "gated", "layer_scale": 0.1}},
}
# In a block, what is split along `tensor`: all kernels, and what acts on split heads or columns.
SPLIT = re.compile(r"kernel$|(query|key|value|Dense_0|proj_in|gate|norm_gate)/(bias|scale)$")
BLOCK = re.compile(r"MultiHeadDotProductAttention_0|MlpBlock_0|token_mixing|channel_mixing")
NORMS_OF_HEADS = re.compile(r"(query|key)_ln/")


@functools.cache
def abstract(name: str) -> Any:
    """The shapes of a training state with Adam's moments, of a named model or a family's."""
    if name in NAMED:
        model, size = (
            create_model(name, 8, **NAMED[name]),
            (32, 32) if "cct" in name else (224, 224),
        )
    else:
        model, size = make_model(runs.tiny_config(model=FAMILIES[name]), 8), (8, 8)
    config = default_config()
    config.optimizer = "adamw"
    optimizer = make_optimizer(config, lambda step: jnp.zeros(()))
    return jax.eval_shape(functools.partial(initial_state, model, optimizer, size, 0, ema=True))


def parts(mesh, path, shape):
    """The axis names of a leaf's spec, by position."""
    spec = partition(mesh, path, shape)
    assert len(spec) == len(shape)
    return list(spec)


@pytest.mark.parametrize("name", [*NAMED, *FAMILIES])
def test_every_leaf_lies_as_the_rule_says(name):
    sizes = (1, 2, 2)
    mesh = paper_mesh(sizes)
    split = 0
    for path, leaf in trees.flatten(abstract(name)).items():
        axes = parts(mesh, path, leaf.shape)
        inside = BLOCK.search(path) and not NORMS_OF_HEADS.search(path)
        wanted = bool(inside and SPLIT.search(path))
        if wanted and "tensor" not in axes:  # a single head of a pruned layer
            assert 1 in leaf.shape, path
            assert name == "pruned heads"
        else:
            assert ("tensor" in axes) == wanted, (path, axes)
        left = [n for n, axis in zip(leaf.shape, axes, strict=True) if axis != "tensor"]
        assert ("fsdp" in axes) == any(n % 2 == 0 for n in left), (path, axes)
        split += wanted
    assert split > 0


@pytest.mark.parametrize("name", [*NAMED, *FAMILIES])
def test_moments_and_average_lie_where_their_parameter_lies(name):
    mesh, state = paper_mesh((2, 4, 2)), abstract(name)
    wanted = jax.tree.leaves(state_sharding(mesh, state.params))
    for tree in (state.opt_state[1].mu, state.opt_state[1].nu, state.ema):
        assert jax.tree.leaves(state_sharding(mesh, tree)) == wanted


def test_kernels_of_a_gated_mlp_are_split_as_columns_then_rows():
    mesh, block = paper_mesh((1, 1, 2)), "Transformer/encoderblock_0/MlpBlock_0"
    assert partition(mesh, f"{block}/proj_in/kernel", (8, 16)) == PartitionSpec(None, "tensor")
    assert partition(mesh, f"{block}/gate/kernel", (8, 8)) == PartitionSpec(None, "tensor")
    assert partition(mesh, f"{block}/norm_gate/scale", (8,)) == PartitionSpec("tensor")
    assert partition(mesh, f"{block}/proj_out/kernel", (8, 8)) == PartitionSpec("tensor", None)


def test_bytes_on_a_device_are_those_of_its_shards():
    mesh = make_mesh(1, 4, 2)
    state = abstract_state(mesh, abstract("sequence pool"))
    leaves = jax.device_put(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.params),
                            state_sharding(mesh, state.params))  # fmt: skip
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(leaves))
    assert device_bytes(state.params) == held < trees.nbytes(state.params) / 4


WIDE = {
    "patches": {"size": (4, 4)},
    "hidden_size": 256,
    "transformer": {"num_layers": 2, "num_heads": 8, "mlp_dim": 1024},
}


@pytest.mark.parametrize(
    ("trained", "sizes"),
    [
        ((1, 1), (8, 1, 1)), ((2, 1), (4, 2, 1)), ((4, 2), (1, 4, 2)),
        ((16, 1), (1, 8, 1)), ((3, 1), (8, 1, 1)), ((6, 4), (1, 2, 4)),
    ],
)  # fmt: skip
def test_a_run_is_scored_in_the_shares_that_the_devices_at_hand_allow(trained, sizes):
    assert tuple(mesh_as_trained(*trained).shape.values()) == sizes


def wide():
    """The start of a run of a model whose parameters are nearly all in kernels that are split."""
    config = default_config()
    config.optimizer = "adamw"
    optimizer = make_optimizer(config, lambda step: jnp.zeros(()))
    model = create_model(None, 8, **WIDE)
    initial = functools.partial(initial_state, model, optimizer, (8, 8), 0, ema=True)
    return initial, jax.eval_shape(initial, None)


def test_initial_values_are_never_whole_on_a_device():
    """The compiled program's own account: what it returns and what it needs in between."""
    initial, shapes = wide()
    state = abstract_state(make_mesh(1, 8, 1), shapes)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    needs = jax.jit(initial, out_shardings=shardings).lower(None).compile().memory_analysis()
    whole = trees.nbytes(shapes)
    assert needs is not None
    assert needs.output_size_in_bytes < whole / 7
    assert needs.temp_size_in_bytes < whole / 4


def test_initial_values_do_not_depend_on_the_mesh():
    initial, shapes = wide()
    split = fresh_state(initial, abstract_state(make_mesh(1, 4, 2), shapes))
    alone = fresh_state(initial, abstract_state(runs.one_device_mesh(), shapes))
    golden.assert_close_to_largest(split.params, alone.params, 1e-6)


def test_pretrained_and_restored_values_come_in_shares(tmp_path):
    initial, shapes = wide()
    state = abstract_state(make_mesh(1, 8, 1), shapes)
    generator = np.random.default_rng(0)
    values = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes.params
    )
    started = fresh_state(initial, state, {"params": values, "batch_stats": {}})
    with Store(tmp_path, keep=1) as store:
        store.save(3, started, {})
        restored = store.restore(state)
    assert restored is not None
    for tree in (started, restored.state):
        assert trees.difference(tree.params, values) == []
        for path, leaf in trees.flatten(tree).items():
            wanted = trees.flatten(state)[path].sharding
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), path
            for shard in leaf.addressable_shards:
                assert shard.data.shape == wanted.shard_shape(leaf.shape), path


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((1, 1, 3), r"config.mesh.tensor=3: divides none .* heads and MLPs have \(32, 2\)"),
        ((1, 7, 1), r"config.mesh.fsdp=7: divides none .* parameters have"),
    ],
)
def test_an_axis_that_would_split_nothing_is_refused(sizes, says):
    shapes = {p: leaf.shape for p, leaf in trees.flatten(abstract("sequence pool").params).items()}
    with pytest.raises(ConfigError, match=says):
        check_split(paper_mesh(sizes), shapes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {
                "mesh": {"tensor": 8},
                "model": {"transformer": {"num_heads": 1, "mlp_dim": 5}},
            },
            "nothing would be split",
        ),
        ({"mesh": {"tensor": 3}}, "must be the number of devices, 8"),
        ({"batch": 12}, "divisible by the 8 devices"),
    ],
)
def test_a_run_is_refused_when_it_is_built_and_not_when_it_is_compiled(changes, says):
    with pytest.raises(ConfigError, match=says):
        build(runs.tiny_config(**changes))


@pytest.mark.parametrize(("mesh", "says"), [({"fsdp": 8}, "on each device, of "), ({}, None)])
def test_a_run_says_what_each_device_holds_where_the_mesh_splits_it(mesh, says, tmp_path):
    with Store(tmp_path, keep=1) as store, StopSignals() as signals:
        rows = dict(Run(build(runs.tiny_config(mesh=mesh)), store, signals).summary())
    assert ("memory" in rows) == (says is not None)
    assert says is None or says in rows["memory"]
