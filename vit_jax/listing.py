"""What `vit_jax models` prints: the names, or what one model is made of."""

import rich.box
import rich.console
import rich.table

from vit_jax.models.summary import Layer, compiled_flops, summarize
from vit_jax.models.zoo import canonical_name, create_model, list_models
from vit_jax.recipes import shipped


def print_names() -> None:
    """Prints the models and the recipes that there are."""
    print("models   ", "  ".join(list_models()))
    print("recipes  ", "  ".join(shipped()))
    print("\nvit_jax models NAME --size=224 shows the layers, parameters and GFLOP of one.")


def print_model(name: str, size: tuple[int, int], num_classes: int) -> None:
    """Prints the layers of a named model at an image size (height, width) in pixels.

    Raises:
      ConfigError, DataError: an unknown name, or a size that does not fit.
    """
    model = create_model(name, num_classes)
    summary = summarize(model, size)
    table = rich.table.Table(
        title=f"{canonical_name(name)}  {size[0]}×{size[1]} px, {num_classes} classes",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("layer", no_wrap=True)
    for heading in ("output", "parameters", "GFLOP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in summary.layers:
        table.add_row(*_cells(layer))
    console = rich.console.Console(highlight=False, markup=False)
    console.print(table)
    counted = compiled_flops(model, size)
    console.print(f"  {summary.params:,} parameters, {4e-6 * summary.params:,.1f} MB in float32")
    console.print(
        f"  {summary.flops / 1e9:,.3f} GFLOP an image by formula (2 for each multiplication), and "
        f"{summary.elementwise / 1e9:,.3f} of norms, softmax and other single elements; "
        f"{counted / 1e9:,.3f} in the compiled program "
        f"({counted / (summary.flops + summary.elementwise) - 1:+.1%})",
        soft_wrap=True,
    )


def _cells(layer: Layer) -> tuple[str, ...]:
    times = f"{layer.count} × " if layer.count > 1 else ""
    work = f"{times}{layer.flops / 1e9:,.3f}" if layer.flops else ""
    shape = "×".join(str(n) for n in layer.output)
    return layer.name, shape, f"{times}{layer.params:,}", work
