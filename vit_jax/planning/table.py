"""A plan as tables for people."""

from vit_jax.planning.plan import USABLE, Plan
from vit_jax.tables import console, table

_REMEDIES = {
    "memory": "a larger config.mesh.fsdp or mesh.tensor, config.accum_steps, or "
    "config.model.transformer.remat=nothing_saveable",
    "compute": "nothing, or, where blocks are computed again, less of remat",
    "update": "more images a step",
    "data": "more images a step, or fewer accum_steps",
    "fsdp": "more images a step, fewer accum_steps, or more of the devices along mesh.data",
    "tensor": "fewer devices along mesh.tensor, or config.model.transformer.attention.merged_qkv",
}


def print_plan(plan: Plan) -> None:
    """Prints memory, communication and time of a step."""
    out, device = console(), plan.device
    mesh = ", ".join(f"{axis} {n}" for axis, n in plan.mesh.items())
    out.print(f"{plan.devices:,} x {device.name} ({mesh}), {plan.params:,} parameters\n")
    rows = table(None, ["on each device"], ["GB"])
    for what, size in plan.memory.items():
        rows.add_row(what, f"{size / 1e9:,.3f}")
    says = "fits" if plan.fits else "does not fit"
    rows.add_row(f"all: {says} in {USABLE:.0%} of {device.memory / 1e9:,.0f}", _gb(plan.bytes))
    out.print(rows)
    rows = table(None, ["collectives of a step", "along", "of"], ["number", "GB", "GB sent"])
    for one in plan.collectives:
        rows.add_row(one.kind, one.axis, one.what, f"{one.count:,}", _gb(one.bytes), _gb(one.sent))
    out.print(rows)
    rows = table(None, ["time of a step"], ["ms"])
    for what, seconds in plan.seconds.items():
        rows.add_row(f"{what}, alone", f"{1000 * seconds:,.2f}")
    rows.add_row("the step", f"{1000 * plan.step_seconds:,.2f}")
    out.print(rows)
    out.print(
        f"  operations: {plan.model_flops / 1e12:,.1f} TFLOP a step, "
        f"{plan.device_flops / 1e12:,.3f} on each device\n"
        f"  {plan.fraction_of_peak:.1%} of the peak, where {plan.utilisation:.0%} is assumed of "
        f"the operations alone: efficiency {plan.efficiency:.1%}\n"
        f"  limit: {plan.limit}; what helps: {_REMEDIES[plan.limit]}",
        soft_wrap=True,
    )


def _gb(size: float | int) -> str:
    return f"{size / 1e9:,.3f}"
