"""A training step on devices that need not be there: memory, communication, time, and what limits.

The time is a prediction from peaks: matrix products run at a share of the peak that is given, the
update at the bandwidth of the memory, collectives at that of their links. What `tensor` sends is
waited for; what `data` and `fsdp` send hides behind the operations, as far as these last.
"""

import dataclasses
import functools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from vit_jax import trees
from vit_jax.config import Config, changed
from vit_jax.errors import ConfigError
from vit_jax.experiment import check_batch, make_model, make_preprocess
from vit_jax.finetune import locked_parts, settled
from vit_jax.mesh import (
    axis_sizes,
    batch_shards,
    check_split,
    device_bytes,
    paper_mesh,
    partition,
)
from vit_jax.models.encoder import heads_of_layers
from vit_jax.models.kernels import why_not_cudnn
from vit_jax.models.summary import Shapes, flops_by_path, shapes_of_layers
from vit_jax.models.zoo import Model
from vit_jax.optim import make_optimizer
from vit_jax.planning.accelerators import Accelerator, find_accelerator
from vit_jax.planning.activations import Kept, block_of, kept_by_layers, kept_bytes
from vit_jax.planning.collectives import Collective, Work, step_collectives
from vit_jax.runtime.gpu import AMPERE
from vit_jax.state import Beginning, TrainState, abstract_state, initial_state, parted

CLASSES = 1000  # where the config does not say
UTILISATION = 0.5  # ViT-22B reports 0.549 of a TPU v4's peak (arXiv:2302.05442, section 4)
USABLE = 0.92  # of the memory; the rest is the runtime's, and lost between arrays
# The first layer has no gradient of its input to compute.
_FIRST = ("conv_root/kernel", "stem/conv_0/kernel", "stem/kernel", "embedding/kernel")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one training step takes, on paper.

    Attributes:
      mesh: devices along each axis.
      device: one of them.
      params: parameters of the model.
      memory: {what: bytes on each device}.
      collectives: of a step.
      model_flops: operations of a step over all devices: forward and backward, nothing twice.
      device_flops: operations that each device does, those of remat and of what is not split too.
      seconds: {"compute", "update", "data", "fsdp", "tensor"}, each alone.
      step_seconds: of the step, with what hides behind the operations.
      utilisation: share of the peak that was assumed of the operations.
    """

    mesh: dict[str, int]
    device: Accelerator
    params: int
    memory: dict[str, float | int]
    collectives: tuple[Collective, ...]
    model_flops: float | int
    device_flops: float | int
    seconds: dict[str, float | int]
    step_seconds: float | int
    utilisation: float | int

    @property
    def devices(self) -> int:
        return math.prod(self.mesh.values())

    @property
    def bytes(self) -> float | int:
        """Bytes on each device."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.bytes <= USABLE * self.device.memory

    @property
    def fraction_of_peak(self) -> float | int:
        """Share of all devices' peak that goes into the model's operations (MFU)."""
        return self.model_flops / self.devices / self.device.flops / self.step_seconds

    @property
    def efficiency(self) -> float | int:
        """Share of the step that the model's operations alone would take on as many devices."""
        return self.fraction_of_peak / self.utilisation

    @property
    def limit(self) -> str:
        """What to change first: "memory", or the largest part of the step's time."""
        return max(self.seconds, key=self.seconds.__getitem__) if self.fits else "memory"

    def to_json(self) -> str:
        """Returns all figures as one JSON object."""
        further = ("devices", "bytes", "fits", "fraction_of_peak", "efficiency", "limit")
        figures = dataclasses.asdict(self) | {name: getattr(self, name) for name in further}
        for entry, found in zip(figures["collectives"], self.collectives, strict=True):
            entry["sent"] = found.sent
        return json.dumps(figures, indent=2)


def make_plan(
    config: Config, devices: int, device: str = "h100", utilisation: float | int = UTILISATION
) -> Plan:
    """Plans a training step of a config; no data is opened and nothing is computed.

    With `train_only`, optimiser and gradients are those of what is trained; operations, activations
    and what is sent are counted as if all of it were.

    Args:
      config: all settings.
      devices: how many there are.
      device: a name or description, as `find_accelerator` takes it.
      utilisation: share of the peak that the operations reach while nothing else goes on.

    Raises:
      ConfigError: mesh, batch and model do not fit together, or the device is not known.
    """
    accelerator = find_accelerator(device)
    if devices < 1:
        raise ConfigError(f"--devices={devices}: must be at least 1")
    if not 0 < utilisation <= 1:
        raise ConfigError(f"--utilisation={utilisation:g}: must be above 0 and at most 1")
    config = settled(config)
    if config.dtype is None:
        config = changed(config, {"dtype": "bfloat16"})
    mesh = paper_mesh(axis_sizes(devices, config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    check_batch(config, mesh)
    model = make_model(config, config.num_classes or CLASSES)
    shapes = shapes_of_layers(model, make_preprocess(config).size)
    check_split(mesh, {path: leaf.shape for path, leaf in shapes[0].items()})
    state, work = shapes_of_state(config, model, mesh), work_of(config)
    collectives = step_collectives(shapes, mesh, work)
    plain = _plain_attention(config, model, accelerator)
    kept = kept_by_layers(shapes, work.itemsize, plain_attention=plain)
    locked = locked_parts(config, model, make_preprocess(config).size)
    memory = _memory(config, state, kept, mesh, work, locked)
    model_flops, device_flops = _flops(shapes, mesh, work)
    seconds = _seconds(accelerator, mesh, collectives, memory, device_flops / utilisation)
    hidden = max(0.0, seconds["data"] + seconds["fsdp"] - seconds["compute"])
    step = seconds["compute"] + seconds["update"] + seconds["tensor"] + hidden
    return Plan(
        dict(mesh.shape), accelerator, trees.count(state.params), memory, collectives,
        model_flops, device_flops, seconds, step, utilisation,
    )  # fmt: skip


def shapes_of_state(config: Config, model: Model, mesh: Any) -> TrainState:
    """Returns shape, dtype and sharding of every leaf of the training state."""
    optimizer = make_optimizer(config, lambda step: jnp.zeros(()))
    size = make_preprocess(config).size
    ema, beginning = config.ema_decay > 0, Beginning(locked=locked_parts(config, model, size))
    initial = functools.partial(
        initial_state, model, optimizer, size, config.seed, ema=ema, beginning=beginning
    )
    return abstract_state(mesh, jax.eval_shape(initial))


def work_of(config: Config) -> Work:
    """Returns what a step is given, from the settings of the run."""
    encoder = config.model.transformer
    return Work(
        images=config.batch,
        parts=config.accum_steps,
        itemsize=jnp.dtype(config.dtype or "float32").itemsize,
        remat=encoder.remat not in (None, "everything_saveable"),
        loop=bool(config.model.scan_blocks),
        merged=bool(encoder.attention.merged_qkv),
    )


def _memory(
    config: Config,
    state: TrainState,
    kept: list[Kept],
    mesh: AbstractMesh,
    work: Work,
    locked: tuple[str, ...],
) -> dict[str, float | int]:
    """Returns {what: bytes on a device} where they peak: at the start of the backward pass."""
    parameters, trained = (device_bytes(x) for x in (state.params, parted(state.params, locked)[0]))
    images = work.images / work.parts / batch_shards(mesh)
    encoder = config.model.transformer
    pixels = (
        3 * math.prod(make_preprocess(config).size) * (work.parts + 4)
    )  # uint8 of the batch, float32 of a part
    state_bytes = {
        "parameters": parameters + device_bytes(state.batch_stats),
        "optimiser": device_bytes(state.opt_state),
        "average of parameters": device_bytes(state.ema),
    }
    backward = {
        "gradients": trained * (2 if work.parts > 1 else 1),
        "gathered parameters": _gathered(state, mesh, work),
        "activations": images * kept_bytes(kept, mesh.shape["tensor"], encoder.remat),
    }
    return {**state_bytes, **backward, "images": images * pixels}


def _plain_attention(config: Config, model: Model, accelerator: Accelerator) -> bool:
    """Whether attention holds its weights: wherever no fused kernel serves."""
    encoder: Any = getattr(model, "transformer", None)
    if not encoder:
        return False
    attention = config.model.transformer.attention
    if attention.kernel == "xla":
        return True
    heads = max(heads_of_layers(encoder["num_heads"], encoder["num_layers"]))
    width = attention.head_width or model.hidden_size // heads
    query = jax.ShapeDtypeStruct((1, 1, heads, width), jnp.dtype(config.dtype))
    dropout = encoder.get("attention_dropout_rate", 0.1) > 0
    return why_not_cudnn(accelerator.platform, AMPERE, query, dropout=dropout) is not None


def _gathered(state: TrainState, mesh: AbstractMesh, work: Work) -> float | int:
    """Returns the bytes of parameters that are put together from the shares of `fsdp`.

    XLA gathers each once and holds it until its gradient is there. Where blocks are a loop it holds
    one block's at a time. So it does with remat; but in a loop over parts it gathers all of them
    before.
    """
    by_block: dict[str | None, float | int] = {}
    for path, leaf in trees.flatten(state.params).items():
        axes = partition(mesh, path, leaf.shape)
        if "fsdp" in axes:
            share = mesh.shape["tensor"] if "tensor" in axes else 1
            block = block_of(path)
            by_block[block] = by_block.get(block, 0) + math.prod(leaf.shape) * 4 / share
    outside = by_block.pop(None, 0)
    blocks = by_block.values()
    one_block = work.loop or (work.remat and work.parts == 1)
    return outside + (max(blocks, default=0) if one_block else sum(blocks))


def _flops(shapes: Shapes, mesh: AbstractMesh, work: Work) -> tuple[float | int, float | int]:
    """Returns the operations of a step: the model's, over all devices; and those of each device."""
    params, outputs = shapes
    whole = device = 0.0
    flops = flops_by_path(params, outputs)
    first = next((path for path in _FIRST if path in flops), None)
    for path, forward in flops.items():
        backward = forward * (1 if path == first else 2)
        again = forward if work.remat and block_of(path) else 0
        kernel = path if path.endswith("/kernel") else f"{path}/query/kernel"
        split = "tensor" in partition(mesh, kernel, params[kernel].shape)
        share = batch_shards(mesh) * (mesh.shape["tensor"] if split else 1)
        whole += work.images * (forward + backward)
        device += work.images * (forward + backward + again) / share
    return whole, device


def _seconds(
    accelerator: Accelerator,
    mesh: AbstractMesh,
    collectives: tuple[Collective, ...],
    memory: dict[str, float | int],
    flops: float | int,
) -> dict[str, float | int]:
    """Returns the seconds of each part of a step, as if alone."""
    state = ("parameters", "optimiser", "average of parameters")
    moved = 2 * sum(memory[what] for what in state) + memory["gradients"]  # read and written
    seconds = {"compute": flops / accelerator.flops, "update": moved / accelerator.bandwidth}
    reach = 1  # neighbours of the last axis are the nearest
    for axis in reversed(mesh.axis_names):
        reach *= mesh.shape[axis]
        rate = accelerator.link if reach <= accelerator.domain else accelerator.network
        sent = sum(one.sent for one in collectives if one.axis.split("+")[0] == axis)
        seconds[axis] = sent / rate
    return seconds
