"""What a model is made of: layers, shapes, parameters and floating-point operations."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from flax import linen as nn

from vit_jax import trees
from vit_jax.errors import ConfigError
from vit_jax.models.inputs import example_inputs
from vit_jax.models.kernels import why_not_cudnn_here

Shape = tuple[int, ...]
# {path: parameter's shape and dtype}, and {module's path: what it returns for one image}.
Shapes = tuple[dict[str, Any], dict[str, Shape]]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of a summary; `count` layers that follow each other are alike.

    Attributes:
      name: path of the (first) layer.
      output: shape of what it returns, without the batch.
      params: parameters of one.
      flops: floating-point operations of one, for one image.
      count: how many there are.
    """

    name: str
    output: Shape
    params: int
    flops: int
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Summary:
    """A model at one image size.

    Attributes:
      layers: what it consists of, in the order of the forward pass.
      params: parameters.
      flops: floating-point operations of the forward pass of one image: 2 for each weight and
        each row that it is applied to, and those of the attention products; activations, norms
        and softmax are not counted, as is usual.
      elementwise: about how many those are, and the additions of biases and residuals.
    """

    layers: tuple[Layer, ...]
    params: int
    flops: int
    elementwise: int


def summarize(model: nn.Module, image_size: tuple[int, int]) -> Summary:
    """Describes a model at a size (height, width) in pixels, from shapes alone.

    Raises:
      ConfigError, DataError: the model's fields, or the size, do not fit.
    """
    params, outputs = shapes_of_layers(model, image_size)
    flops = flops_by_path(params, outputs)
    layers = [
        Layer(path, shape, _within(path, params, trees.count), _within(path, flops, sum))
        for path, shape in _shown(params, outputs).items()
    ]
    return Summary(
        tuple(_joined(layers)),
        trees.count(params),
        sum(flops.values()),
        _elementwise(params, outputs),
    )


@dataclasses.dataclass(frozen=True)
class AttentionSize:
    """The size of one self-attention: tokens n, heads h, and the width c of a head."""

    tokens: int
    heads: int
    width: int


def attention_size(model: nn.Module, image_size: tuple[int, int]) -> AttentionSize | None:
    """Returns the largest self-attention of a model at a size in pixels; None if it has none."""
    params, outputs = shapes_of_layers(model, image_size)
    found = [
        AttentionSize(outputs[path.removesuffix("/query/kernel")][0], *leaf.shape[1:])
        for path, leaf in params.items()
        if path.endswith("/query/kernel") and len(leaf.shape) == 3  # not a BERT's, of short texts
    ]
    return max(found, key=lambda size: size.tokens**2 * size.heads * size.width, default=None)


def check_attention_kernel(
    kernel: str | None, model: nn.Module, image_size: tuple[int, int]
) -> None:
    """Raises ConfigError if cuDNN's attention is asked for by name and cannot train a model here.

    A model that is only looked at has the plain kernel then (`choose_kernel`).
    """
    size = attention_size(model, image_size) if kernel == "cudnn" else None
    if size is None:
        return
    dropout = (getattr(model, "transformer", None) or {}).get("attention_dropout_rate", 0.1) > 0
    query = jax.ShapeDtypeStruct((1, size.tokens, size.heads, size.width), model.dtype)
    if reason := why_not_cudnn_here(query, dropout=dropout):
        raise ConfigError(
            f"config.model.transformer.attention.kernel='cudnn' cannot serve here: {reason}; "
            "'auto' takes it wherever it does"
        )


def compiled_flops(model: nn.Module, image_size: tuple[int, int]) -> float:
    """Returns the operations of one image's forward pass, as counted in the compiled program.

    These are all of them, those of activations, norms and softmax included; NaN where the compiler
    does not count. Nothing is computed and no parameter is held.
    """
    inputs = example_inputs(model, image_size)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    program = jax.jit(model.apply).lower(variables, *inputs).compile()
    return (program.cost_analysis() or {}).get("flops", math.nan)


def shapes_of_layers(model: nn.Module, image_size: tuple[int, int]) -> Shapes:
    """Returns the parameters, and what each module returns for one image, in order of the calls."""
    outputs: dict[str, Shape] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        path = "/".join(context.module.path)
        outputs.setdefault(path, ())  # in its place before those of the modules inside
        result = call(*args, **kwargs)
        if getattr(result, "ndim", 0):  # under remat, flax also calls for a scalar
            outputs[path] = result.shape[1:] if result.shape[0] == 1 else result.shape
        return result

    with nn.intercept_methods(record):
        inputs = example_inputs(model, image_size)
        variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return trees.flatten(variables["params"]), outputs


def flops_by_path(params: Mapping[str, Any], outputs: Mapping[str, Shape]) -> dict[str, int]:
    """Returns {path: operations} for every kernel and every attention."""
    flops = {}
    for path, leaf in params.items():
        module, _, name = path.rpartition("/")
        if name != "kernel":
            continue
        flops[path] = 2 * math.prod(leaf.shape) * rows_of(module, leaf.shape, outputs)
        if module.endswith("/query"):
            attention = module.removesuffix("/query")
            queries = rows_of(module, leaf.shape, outputs)
            keys = rows_of(f"{attention}/key", leaf.shape, outputs)
            flops[attention] = 4 * queries * keys * math.prod(leaf.shape[1:])
    return flops


# Operations on each element, as the compiled program has them. Exponentials and the like are left
# out there too: XLA counts them apart.
_NORM = 6  # sums for mean and square, the square, minus mean, times scale, plus bias
_SOFTMAX = 5  # scale, maximum, minus it, sum, over it
_GELU = 8  # the tanh form


def _elementwise(params: Mapping[str, Any], outputs: Mapping[str, Shape]) -> int:
    """Returns the operations on single elements: norms, biases, activations, softmax, residuals."""
    normed = {path.rpartition("/")[0] for path in params if path.endswith("/scale")}
    total = 0
    for path, leaf in params.items():
        module, _, name = path.rpartition("/")
        shape = outputs.get(module) or (*outputs.get(module.rpartition("/")[0], ())[:-1], leaf.size)
        if name == "scale":
            total += _NORM * math.prod(shape)
        elif name == "bias" and module not in normed:
            total += math.prod(shape)
        elif name == "kernel" and module.endswith(("/Dense_0", "/mlp/dense_layer")):
            total += _GELU * math.prod(shape)
        elif name == "kernel" and module.endswith("/query"):
            attention = module.removesuffix("/query")
            queries = rows_of(module, leaf.shape, outputs)
            keys = rows_of(f"{attention}/key", leaf.shape, outputs)
            heads = leaf.shape[1] if len(leaf.shape) == 3 else 1  # a BERT's do not show
            total += _SOFTMAX * queries * keys * heads
            total += 2 * math.prod(outputs[attention])  # the block's two residual sums
    return total


def rows_of(module: str, kernel: Shape, outputs: Mapping[str, Shape]) -> int:
    """Returns how many vectors of one image a module's kernel is applied to."""
    if not outputs[module]:  # a HeadProjection: its attention applies it, to every token
        return math.prod(outputs[module.rpartition("/")[0]][:-1])
    to_heads = len(kernel) == 3 and not module.endswith("/out")
    features = kernel[-2:] if to_heads else kernel[-1:]
    return math.prod(outputs[module]) // math.prod(features)


# Modules whose own modules are rows of a summary.
_CONTAINERS = {"Transformer", "img", "txt", "Encoder_0", "BertEncoder_0"} | {
    "encoder_block",
    "layer_sequence",
}


def _shown(params: Mapping[str, Any], outputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Returns the modules, and the parameters outside of them, that are rows of a summary."""
    alone = {path: leaf.shape[1:] for path, leaf in params.items() if _is_row(path)}
    modules = {path: shape for path, shape in outputs.items() if path and _is_row(path)}
    return alone | {path: shape for path, shape in modules.items() if _within(path, params, len)}


def _is_row(path: str) -> bool:
    *around, last = path.split("/")
    return {*around} <= _CONTAINERS and last not in _CONTAINERS


def _within(path: str, values: Mapping[str, Any], reduce: Callable[[list[Any]], int]) -> int:
    return reduce([v for p, v in values.items() if p == path or p.startswith(f"{path}/")])


def _joined(layers: list[Layer]) -> Iterator[Layer]:
    """Joins neighbours that differ in their number alone."""
    numbered = re.compile(r"\d+$")
    for _, group in itertools.groupby(
        layers, lambda row: (numbered.sub("", row.name), row.output, row.params, row.flops)
    ):
        rows = [*group]
        name = rows[0].name
        if len(rows) > 1 and (last := numbered.search(rows[-1].name)):
            name += f" … {last[0]}"
        yield dataclasses.replace(rows[0], name=name, count=len(rows))
