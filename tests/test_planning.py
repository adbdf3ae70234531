"""Plans: their formulas against programs that XLA partitioned, and against plain arithmetic."""

import collections
import json

import jax
import jax.numpy as jnp
import optax
import pytest

from tests import runs
from tests.golden import REPOSITORY
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.preprocess import Preprocess
from vit_jax.experiment import make_model
from vit_jax.main import main
from vit_jax.mesh import AXES, make_mesh, paper_mesh
from vit_jax.models import create_model
from vit_jax.models.summary import shapes_of_layers, summarize
from vit_jax.optim import make_optimizer
from vit_jax.planning.accelerators import ACCELERATORS, FIGURES, find_accelerator
from vit_jax.planning.activations import kept_by_layers, kept_bytes
from vit_jax.planning.collectives import step_collectives
from vit_jax.planning.partitioned import collective_bytes
from vit_jax.planning.plan import make_plan, shapes_of_state, work_of
from vit_jax.recipes import load_config
from vit_jax.runtime import memory
from vit_jax.step import StepSettings, compiled, make_train_step

CLASSES, LAYERS = 16, 8
TRANSFORMER = {
    "num_layers": 2,
    "num_heads": 8,
    "mlp_dim": 512,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}


def config(transformer=None, *, scan_blocks=None, **changes):
    transformer = {**TRANSFORMER, **(transformer or {})}
    model = {"patches": {"size": (8, 8)}, "hidden_size": 128, "scan_blocks": scan_blocks}
    return runs.tiny_config(
        pp={"crop": 32},
        model={**model, "transformer": transformer},
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
    shapes = shapes_of_layers(make_model(settings, CLASSES), (32, 32))
    found = collections.defaultdict(float)
    for one in step_collectives(shapes, paper_mesh(sizes), work_of(settings)):
        found["gather" if one.kind == "all-gather" else "sum", one.axis] += one.bytes
    return found


REMAT = {"remat": "nothing_saveable"}
MERGED = {"attention": {"merged_qkv": True}}


def exchanged(settings, sizes):
    """{(kind, axis): bytes} as XLA's partitioner made them."""
    program = partitioned(settings, make_mesh(*sizes)).as_text() or ""
    return collective_bytes(program, dict(zip(AXES, sizes, strict=True)))


@pytest.mark.parametrize(
    ("sizes", "changes"),
    [  # benchmarks/plan_check.py has more
        ((1, 1, 8), {"transformer": MERGED}),
        ((1, 8, 1), {"transformer": REMAT, "accum_steps": 2}),
        ((1, 8, 1), {"scan_blocks": True, "batch": 64, "accum_steps": 2}),
        (
            (1, 8, 1),
            {"batch": 8},
        ),  # fewer tokens than an MLP has columns: parameters move, not they
    ],
)
def test_the_formula_gives_the_bytes_that_the_partitioned_program_exchanges(sizes, changes):
    settings = config(**changes)
    found, wanted = exchanged(settings, sizes), formula(settings, sizes)
    for key, size in wanted.items():
        assert found.pop(key) == pytest.approx(size, rel=0.005)
    assert sum(found.values()) < 0.01 * sum(wanted.values())


def test_on_a_mesh_of_all_three_axes_the_formula_is_near():
    """XLA sums vectors over `data` and `fsdp` at once, and the first layer in its own way."""
    settings = config(batch=64)
    found, wanted = exchanged(settings, (2, 2, 2)), formula(settings, (2, 2, 2))
    assert found["sum", "tensor"] == pytest.approx(wanted["sum", "tensor"], rel=0.01)
    assert sum(found.values()) == pytest.approx(sum(wanted.values()), rel=0.1)


def test_counting_reads_groups_in_each_way_and_multiplies_loops():
    program = """
%body.1 (arg: f32[4]) -> f32[4] {
  %a = f32[8,4]{1,0} all-gather(%x), replica_groups={{0,1},{2,3}}, dimensions={0}
  %b = (f32[], f32[16]{0}) all-reduce(%x, %y), replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%add
}
ENTRY %main (arg: f32[4]) -> f32[4] {
  %c = f32[4] while(%t), body=%body.1, backend_config={"known_trip_count":{"n":"3"}}
  %d = bf16[4]{0} reduce-scatter(%x), replica_groups=mesh['axis_0'=4] {'axis_0'}, to_apply=%add
  %e = s32[2]{0} all-reduce(%x), replica_groups={{0,3},{1,2}}, to_apply=%add
}
"""
    assert collective_bytes(program, {"data": 2, "fsdp": 2, "tensor": 1}) == {
        ("gather", "fsdp"): 3 * 8 * 4 * 4,
        ("sum", "data"): 3 * 17 * 4,
        ("sum", "data+fsdp"): 4 * 4 * 2,
        ("sum", "?"): 8,
    }


def h14(*flags):
    """The settings of ViT-H/14, but for a quarter of its blocks: each takes its time to trace."""
    flags = (f"--config.model.transformer.num_layers={LAYERS}", *flags)
    return load_config(str(REPOSITORY / "benchmarks" / "large.py") + ":h14", flags)


def test_a_plan_of_vit_h14_adds_up():
    plan = make_plan(h14(), 64)
    whole = summarize(create_model("ViT-H_14", transformer={"num_layers": LAYERS}), (224, 224))
    assert plan.mesh == {"data": 8, "fsdp": 8, "tensor": 1}
    assert plan.params == whole.params
    assert plan.memory["parameters"] == pytest.approx(4 * plan.params / 8, rel=0.01)
    # The first moment is bfloat16, the second float32.
    assert plan.memory["optimiser"] == pytest.approx(6 * plan.params / 8, rel=0.01)
    assert plan.model_flops == pytest.approx(3 * 4096 * whole.flops, rel=0.01)
    assert plan.device_flops == pytest.approx(plan.model_flops / 64)
    assert plan.step_seconds >= plan.device_flops / plan.device.flops / plan.utilisation
    assert plan.fits
    assert 0 < plan.fraction_of_peak < plan.utilisation
    assert make_plan(h14("--config.mesh.fsdp=64"), 64).bytes < plan.bytes


@pytest.mark.parametrize(("optimizer", "ema_decay"), [("adamw", 0.9), ("sgd", 0.0)])
def test_a_plan_of_a_model_of_many_parameters_holds_what_its_program_does(optimizer, ema_decay):
    """The update takes the memory of the old state: none is held beside it."""
    settings = config(
        {"mlp_dim": 4096}, batch=2, optimizer=optimizer, optim_dtype="float32", ema_decay=ema_decay
    )
    program = partitioned(settings, runs.one_device_mesh())
    plan = make_plan(settings, 1)
    assert plan.bytes == pytest.approx(memory.bytes_of_program(program), rel=0.2)
    assert memory.bytes_of_program(program) < 2 * sum(
        plan.memory[name] for name in ("parameters", "optimiser", "average of parameters")
    )


def test_bytes_kept_for_the_backward_pass_are_those_of_the_known_sum():
    """16 n d in bfloat16 for a block of a ViT, and a little around the blocks."""
    shapes = shapes_of_layers(create_model("ViT-B_16"), (224, 224))
    kept = kept_by_layers(shapes, 2, plain_attention=False)
    tokens, width = 197, 768
    blocks = [one for one in kept if one.block]
    assert kept_bytes(blocks, 1, None) == 12 * 16 * tokens * width * 2
    plain = kept_by_layers(shapes, 2, plain_attention=True)
    more = kept_bytes(plain, 1, None) - kept_bytes(kept, 1, None)
    assert more == 12 * 12 * tokens**2 * (4 + 2)
    exact, fused = (
        kept_bytes(kept_by_layers(shapes, 4, plain_attention=plain), 1, None)
        for plain in (True, False)
    )
    assert exact - fused == 12 * 12 * tokens**2 * 4
    # Split in two: heads and columns are, what goes in and comes out is not.
    assert kept_bytes(blocks, 2, None) == 12 * (4 + 12 / 2) * tokens * width * 2
    once = kept_bytes(blocks, 1, "nothing_saveable")
    assert once == (12 + 16) * tokens * width * 2
    assert once < kept_bytes(blocks, 1, "dots_saveable") < kept_bytes(blocks, 1, None)


def test_on_a_cpu_blocks_computed_again_save_memory_in_a_loop():
    """Elsewhere XLA finds the second computation to be the first, and keeps its results."""

    def held(scan_blocks=None, **transformer):
        settings = config({"num_layers": 4, **transformer}, scan_blocks=scan_blocks, batch=64)
        use = partitioned(settings, runs.one_device_mesh()).memory_analysis()
        assert use is not None
        return use.temp_size_in_bytes

    assert held(True, **REMAT) < 0.6 * held()


def test_shapes_of_a_model_with_remat_are_those_without():
    plain, again = (
        summarize(create_model("ViT-S_32", transformer=fields), (64, 64)) for fields in ({}, REMAT)
    )
    assert plain == again


def test_more_devices_on_one_batch_wait_longer_for_each_other():
    """Sixteen times the devices for the same images: less work on each, the same gradients."""
    few, many = (make_plan(h14(f"--config.batch={1024}"), n) for n in (64, 1024))
    assert many.step_seconds < few.step_seconds
    assert many.efficiency < few.efficiency
    assert many.limit == "data"


def test_the_command_prints_tables_and_json(capsys):
    flags = ["--config=digits", "--devices=16", "--config.mesh.fsdp=4", "--config.mesh.tensor=2"]
    assert main(["benchmark", "plan", *flags, "--device=tpu_v5e"]) == 0
    said = capsys.readouterr().out
    for word in ("16 x tpu_v5e (data 2, fsdp 4, tensor 2)", "optimiser", "reduce-scatter", "limit"):
        assert word in said
    assert main(["benchmark", "plan", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"] == 16
    assert found["fits"] is True
    assert found["bytes"] == sum(found["memory"].values())
    assert {one["axis"] for one in found["collectives"]} >= {"data", "fsdp", "tensor"}


DESCRIBED = "flops=2e12,memory=64e9,bandwidth=1e11,link=1e10,domain=8,network=1e9"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--devices=0"], "--devices=0: must be at least 1"),
        (["--devices=12", "--config.mesh.fsdp=5"], "must be the number of devices, 12"),
        (["--devices=12"], "must be divisible by the 12 devices"),
        (["--devices=3", "--config.mesh.tensor=3"], "nothing would be split"),
        (["--devices=8", "--device=h10"], "did you mean 'h100'"),
        (["--devices=8", "--device=flops=1e12,memory=1e9"], "must give a number for each of flops"),
        (["--devices=8", "--device=" + DESCRIBED.replace("2e12", "1.2.3")], "flops=1.2.3 must be"),
        (["--devices=8", "--device=" + DESCRIBED.replace("64e9", "0")], "memory=0 must be a posi"),
        (["--devices=8", "--device=" + DESCRIBED.replace("=8,", "=0.5,")], "domain=0.5 must be a"),
        (["--devices=8", "--utilisation=0"], "--utilisation=0: must be above 0"),
    ],
)
def test_what_does_not_fit_together_is_one_line(flags, says, capsys):
    assert main(["benchmark", "plan", "--config=digits", *flags]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_device_may_be_described():
    h100 = ACCELERATORS["h100"]
    text = ",".join(f"{name}={getattr(h100, name):g}" for name in FIGURES)
    found = find_accelerator(text)
    assert [getattr(found, name) for name in FIGURES] == [getattr(h100, name) for name in FIGURES]
