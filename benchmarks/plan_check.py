"""The formulas of `vit_jax benchmark plan` against programs that XLA partitioned.

    python benchmarks/plan_check.py [--devices 8] [--json]

For layouts of data, fsdp and tensor, the training step of a small ViT is compiled for so many
virtual CPU devices, and the bytes of its collectives are counted: parameters gathered and arrays
summed along each axis. A reduce-scatter is a sum here, as XLA's CPU compiler leaves it an
all-reduce and a slice. The first figure of a pair is the formula's, the second the program's, in
MB; "else" is what the formula does not know of. "few images" is one for each of eight devices,
where without constraints XLA would move the images rather than the parameters.
"""

import argparse
import collections
import json
import os
from typing import Any

import machine

SMALL = {
    "pp": {"crop": 32},
    "augment": {"rotate": 0.0, "shift": 0.0, "scale": 0.0},
    "model": {
        "patches": {"size": (8, 8)},
        "hidden_size": 128,
        "classifier": "token",
        "transformer": {"num_layers": 4, "num_heads": 8, "mlp_dim": 512},
    },
    "batch": 128,
    "num_classes": 16,
    "dtype": "float32",
}
REMAT = {"model": {"transformer": {"remat": "nothing_saveable"}}}
MERGED = {"model": {"transformer": {"attention": {"merged_qkv": True}}}}
GATED = {"model": {"transformer": {"mlp": "gated"}}}
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "remat": REMAT,
    "2 parts": {"accum_steps": 2},
    "remat, 2 parts": {**REMAT, "accum_steps": 2},
    "few images": {"batch": 8},
    "merged": MERGED,
    "gated MLP": GATED,
}
CASES = (
    ("data", ("", "2 parts")),
    ("fsdp", ("", "remat", "2 parts", "remat, 2 parts", "few images")),
    ("tensor", ("", "remat", "merged", "gated MLP")),
    ("all three", ("", "remat", "merged")),
)


def main() -> None:
    """Compares all cases and prints a table, or JSON."""
    parser = argparse.ArgumentParser(description="Plans against partitioned programs.")
    parser.add_argument("--devices", type=int, default=8, help="virtual ones; a multiple of 8")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
    rows = [
        compare(axis, change, sizes(axis, options.devices))
        for axis, changes in CASES
        for change in changes
    ]
    if options.json:
        print(json.dumps({"machine": machine.describe(), "rows": rows}, indent=2))
        return
    columns = ("gathered, fsdp", "summed, data and fsdp", "summed, tensor", "gathered, tensor")
    print(f"| mesh | change | {' | '.join(columns)} | else |")
    print(f"| --- | --- |{' --: |' * (len(columns) + 1)}")
    for row in rows:
        pairs = (f"{a:.2f}, {b:.2f}" if a or b else "" for a, b in (row[c] for c in columns))
        print(f"| {row['mesh']} | {row['change']} | {' | '.join(pairs)} | {row['else']:.2f} |")
    print(machine.line(machine.describe()))


def sizes(axis: str, devices: int) -> tuple[int, int, int]:
    """Returns the devices along each axis."""
    if axis == "all three":
        return devices // 4, 2, 2
    tensor = min(devices, 8)  # there are eight heads
    return {
        "data": (devices, 1, 1),
        "fsdp": (1, devices, 1),
        "tensor": (devices // tensor, 1, tensor),
    }[axis]


def compare(axis: str, change: str, mesh: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the MB by the formula and in the program, under what they are called."""
    from vit_jax.config import default_config, validate
    from vit_jax.experiment import make_model
    from vit_jax.mesh import AXES, make_mesh, paper_mesh
    from vit_jax.models.summary import shapes_of_layers
    from vit_jax.planning.collectives import step_collectives
    from vit_jax.planning.partitioned import collective_bytes
    from vit_jax.planning.plan import work_of
    from vit_jax.recipes import load_config, merge

    config = merge(default_config(), load_config("digits"), "digits")
    for settings in (SMALL, CHANGES[change]):
        merge(config, settings, "plan_check")
    validate(config)
    model = make_model(config, config.num_classes)
    shapes = shapes_of_layers(model, (32, 32))
    program = partitioned(config, model, make_mesh(*mesh))
    found = collective_bytes(program, dict(zip(AXES, mesh, strict=True)))
    wanted: dict[tuple[str, str], float | int] = collections.defaultdict(int)
    for one in step_collectives(shapes, paper_mesh(mesh), work_of(config)):
        wanted["gather" if one.kind == "all-gather" else "sum", one.axis] += one.bytes
    row: dict[str, Any] = {"mesh": axis, "change": change}
    known = 0
    for kind, axes, called in (
        ("gather", ("fsdp",), "gathered, fsdp"),
        ("sum", ("data", "fsdp", "data+fsdp"), "summed, data and fsdp"),
        ("sum", ("tensor",), "summed, tensor"),
        ("gather", ("tensor",), "gathered, tensor"),
    ):
        sides = [sum(side.get((kind, axis), 0) for axis in axes) / 1e6 for side in (wanted, found)]
        row[called], known = sides, known + sides[1]
    return row | {"else": max(0.0, sum(found.values()) / 1e6 - known)}


def partitioned(config: Any, model: Any, mesh: Any) -> str:
    """Returns the training step as XLA compiled it for a mesh."""
    import jax
    import jax.numpy as jnp
    import optax

    from vit_jax.data.augmentation import Augmentation
    from vit_jax.experiment import make_preprocess
    from vit_jax.optim import make_optimizer
    from vit_jax.planning.plan import shapes_of_state
    from vit_jax.step import StepSettings, compiled, make_train_step

    settings = StepSettings(
        config.num_classes,
        make_preprocess(config),
        Augmentation(),
        accum_steps=config.accum_steps,
    )
    schedule = optax.constant_schedule(1e-3)
    step = make_train_step(model, make_optimizer(config, schedule), schedule, settings)
    state = shapes_of_state(config, model, mesh)
    row = jax.ShapeDtypeStruct((config.batch,), jnp.int32)
    images = jax.ShapeDtypeStruct((config.batch, 32, 32, 3), jnp.uint8)
    batch = {"image": images, "label": row, "epoch": row, "index": row}
    return jax.jit(compiled(step, mesh, state)).lower(state, batch).compile().as_text() or ""


if __name__ == "__main__":
    main()
