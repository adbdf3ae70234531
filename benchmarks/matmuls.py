"""The matrix products of a block, forward and backward, each alone: what of the peak is to be had.

    python benchmarks/matmuls.py [--model ViT-B_16] [--size 224] [--batch 128] [--dtype bfloat16]

A step cannot be faster than its products. Timed are the four kinds that a Transformer block has
(query, key and value; out; the MLP's two), of all tokens of a batch, each forward, and for the
gradients of its input and of its kernel, with operands that lie on one device. Their FLOP/s are set
beside those of the large square products that `vit_jax benchmark` calls the peak.
"""

import argparse
import json
import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import machine
from rounds import print_table

from vit_jax.benchmark.peak import matmul_peak
from vit_jax.benchmark.timing import call_seconds
from vit_jax.mesh import make_mesh
from vit_jax.models.zoo import model_fields


class Product(NamedTuple):
    """One product: rows × inner by inner × columns, and how many of it a block has."""

    name: str
    rows: int
    inner: int
    columns: int
    times: int = 1

    @property
    def size(self) -> str:
        """The three numbers, for the reader."""
        return f"{self.rows:,} × {self.inner:,} × {self.columns:,}"

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


def main() -> None:
    """Times every product, and prints the table or JSON."""
    parser = argparse.ArgumentParser(description="Matrix products of a Transformer block.")
    parser.add_argument("--model", default="ViT-B_16", help="a Vision Transformer")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each product")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    dtype = jnp.dtype(options.dtype)
    found = {one: rate(one, dtype, options.seconds) for one in products(options)}
    peak = matmul_peak(make_mesh(), dtype, options.seconds) / jax.device_count()
    whole = sum(one.flops * one.times for one in found)
    reached = whole / sum(one.flops * one.times / of for one, of in found.items())
    here = machine.describe(jax.devices())
    if options.json:
        rows = [{**one._asdict(), "flops_per_second": of} for one, of in found.items()]
        asked = {key: getattr(options, key) for key in ("model", "size", "batch", "dtype")}
        asked |= {"peak_flops_per_second": peak, "reached_flops_per_second": reached}
        print(json.dumps(asked | {"machine": here, "products": rows}, indent=2))
        return
    cells = [
        [one.name, one.size, f"{of / 1e9:,.0f}", f"{of / peak:.1%}"] for one, of in found.items()
    ]
    print_table(("product", "size"), ("GFLOP/s", "of the peak"), cells)
    print(f"\nall of a block: {reached / 1e9:,.0f} GFLOP/s, {reached / peak:.1%} of the peak")
    print(machine.line(here))


def products(options: argparse.Namespace) -> list[Product]:
    """Returns the products of a block's forward and backward pass."""
    fields = model_fields(options.model)
    width, hidden = fields["hidden_size"], fields["transformer"]["mlp_dim"]
    patch = fields["patches"]["size"][0]
    tokens = options.batch * ((options.size // patch) ** 2 + 1)
    kinds = (("q, k, v", width, width, 3), ("out", width, width, 1))
    kinds += (("MLP in", width, hidden, 1), ("MLP out", hidden, width, 1))
    found = []
    for name, inner, columns, count in kinds:
        found += [
            Product(name, tokens, inner, columns, count),
            Product(f"{name}, of its input", tokens, columns, inner, count),
            Product(f"{name}, of its kernel", inner, tokens, columns, count),
        ]
    return found


def rate(product: Product, dtype: jnp.dtype, seconds: float) -> float:
    """Returns FLOP/s of one product, by the median."""
    keys = jax.random.split(jax.random.key(0))
    shapes = (product.rows, product.inner), (product.inner, product.columns)
    a, b = (
        jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)
    )
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(a, b))
    return product.flops / statistics.median(call_seconds(lambda: multiply(a, b), seconds))


if __name__ == "__main__":
    main()
