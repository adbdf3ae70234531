"""What JAX's interpreter of Mosaic GPU kernels cannot do, for those under test.

That of JAX 0.10 runs warpgroups as threads, with shared memory, barriers, copies and a detector of
races. Added here: products of an operand in registers with one in shared memory, which may be
transposed; layouts; views of the same bytes; slices whose start is known at run time alone; and the
rows of a copy that lie beyond an array, which a GPU reads as zeros and does not write.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from jax._src import callback
from jax._src.pallas.mosaic.interpret import utils
from jax._src.pallas.mosaic.interpret.race_detection_state import RaceDetectionState
from jax._src.pallas.mosaic_gpu import core
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks as machine
from jax._src.pallas.mosaic_gpu.interpret import jaxpr_interpret, params, shared_memory
from jax._src.state import types

VIEWS = core.UnswizzleRef, core.UntilingTransform, types.ReshapeTransform
INTERPRETER, MEMORY = jaxpr_interpret.JaxprInterpreter, shared_memory.GPUSharedMemory
PLAIN, STORE = INTERPRETER._interpret_arithmetic_primitive, MEMORY.store_buffer_content


@contextlib.contextmanager
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that are traced here run on the CPU, all memory NaN at first; a race is an error."""
    monkeypatch.setattr(INTERPRETER, "_interpret_arithmetic_primitive", _arithmetic)
    monkeypatch.setattr(INTERPRETER, "_interpret_wgmma_ref_p", _product)
    monkeypatch.setattr(MEMORY, "store_buffer_content", _store_inside)
    monkeypatch.setattr(machine, "_remove_noop_transforms", _without_views)
    monkeypatch.setattr(machine, "_validate_transforms", lambda transforms: None)
    monkeypatch.setattr(machine, "_handle_out_of_bounds_read", _filled_up)
    detectors = []

    def detector(num_cores: int) -> Any:
        detectors.append(RaceDetectionState(num_cores))
        return detectors[-1]

    monkeypatch.setattr(machine, "RaceDetectionState", detector)
    try:
        with params.force_gpu_interpret_mode(params.InterpretGPUParams(detect_races=True)):
            yield
    finally:
        machine.reset_gpu_interpret_mode_state()  # as it asks for after an error
    assert detectors
    assert not any(one.races_found for one in detectors)


def _arithmetic(self: Any, equation: Any, values: Any) -> Any:
    if equation.primitive is core.layout_cast_p:
        return values()[0]
    return PLAIN(self, equation, values)


def _product(self: Any, equation: Any, token: Any, values: Any) -> tuple[Any, list[Any]]:
    total, left, right, *leaves = values()
    views = jax.tree.unflatten(equation.params["b_transforms_tree"], leaves)
    place = self.device_info.device_id, self.thread_id
    add = functools.partial(_add_product, source=equation.source_info)
    shape = machine.TOKEN_SHAPE_DTYPE
    arguments = token, place, total, left, right, views
    return callback.io_callback(add, shape, *arguments, ordered=True), []


def _add_product(
    token: Any, place: Any, total: Any, left: Any, right: Any, views: Any, source: Any
) -> Any:
    memory, device, thread = machine._get_shared_memory(), int(place[0]), int(place[1])
    here = memory.get_global_thread_id(device, thread)
    total, right = (machine.HostAllocationKey.from_array(x) for x in (total, right))
    transposed = isinstance(views[-1], types.TransposeTransform)
    slices = jax.tree.map(int, _without_views(views[:-1] if transposed else views))
    where = utils.to_range(slices)
    factor, _, clock = memory.get_buffer_content(right, where, here)
    machine.get_races().check_read(device, thread, clock, right, where, source_info=source)
    factor = np.asarray(factor, np.float32)
    factor = factor.T if transposed else factor
    before = memory.get_buffer_content(total, (), here)[0]
    assert before is not None
    with np.errstate(invalid="ignore"):  # rows that are not copied out may be NaN
        after = before + np.asarray(left, np.float32) @ factor
    memory.store_buffer_content(total, (), after, here)
    return token


def _store_inside(self: Any, key: Any, where: Any, value: Any, *rest: Any, **more: Any) -> Any:
    inside = utils.clip_range_to_shape(where, self.mem[key].logical_shape) if where else ()
    assert inside is not None
    kept = [slice(x.stop - x.start) for x in inside if isinstance(x, slice)]
    return STORE(self, key, inside, value[tuple(kept)], *rest, **more)


def _without_views(transforms: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x for x in transforms if not isinstance(x, VIEWS))


def _filled_up(read: np.ndarray, shape: tuple[int, ...], *_: Any) -> np.ndarray:
    return np.pad(read, [(0, n - m) for n, m in zip(shape, read.shape, strict=True)])
