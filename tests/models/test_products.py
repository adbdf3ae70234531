"""Matrix products: values and gradients against float64, and what a bfloat16 one is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.extend.core import jaxprs_in_params

from tests.models.running import apply, new_params
from vit_jax import trees
from vit_jax.models.products import Dense, dense, inner_products, product

# Rounding of the operands, of sums and of results, as a share of the largest entry.
LIMITS = {"float32": 2e-6, "bfloat16": 1e-2}
# (rows, columns of the first, of the second): the backward pass transposes the narrower one.
SIZES = [(7, 3, 5), (7, 5, 3), (6, 4, 4), (1, 2, 3)]


def numbers(shape, seed=0, dtype="float32"):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def in_float64(x):
    return np.asarray(x.astype(jnp.float32), np.float64)


def assert_close(got, want, dtype):
    assert got.shape == want.shape
    assert np.abs(in_float64(got) - want).max() <= LIMITS[dtype] * np.abs(want).max()


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("n", "d", "k"), SIZES)
def test_dense_and_its_gradients_are_those_of_float64(n, d, k, dtype):
    x, kernel, bias = numbers((n, d), 0, dtype), numbers((d, k), 1), numbers((k,), 2)
    g = numbers((n, k), 3, dtype)
    y, back = jax.vjp(dense, x, kernel, bias)
    assert y.dtype == dtype
    x64, kernel64, bias64, g64 = map(in_float64, (x, kernel, bias, g))
    assert_close(y, x64 @ kernel64 + bias64, dtype)
    found = back(g)
    assert [each.dtype for each in found] == [dtype, "float32", "float32"]
    for each, want in zip(found, (g64 @ kernel64.T, x64.T @ g64, g64.sum(0)), strict=True):
        assert_close(each, want, dtype)


@pytest.mark.parametrize("dtype", LIMITS)
def test_dense_without_a_bias_adds_none(dtype):
    x, kernel = numbers((7, 3), 0, dtype), numbers((3, 5), 1)
    y, back = jax.vjp(dense, x, kernel)
    assert_close(y, in_float64(x) @ in_float64(kernel), dtype)
    assert_close(back(jnp.ones_like(y))[1], in_float64(x).T @ np.ones((7, 5)), dtype)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_products_and_their_gradients_are_those_of_float64(batch, n, k, m, dtype):
    a, b = numbers((*batch, n, k), 0, dtype), numbers((*batch, k, m), 1, dtype)
    rows = b.swapaxes(-1, -2)
    a64, b64 = in_float64(a), in_float64(b)
    for function, second in ((product, b), (inner_products, rows)):
        y, back = jax.vjp(function, a, second)
        assert y.dtype == (dtype if function is product else "float32")
        assert_close(y, a64 @ b64, dtype)
        g = numbers(y.shape, 2).astype(y.dtype)
        of_a, of_b = back(g)
        assert (of_a.dtype, of_b.dtype) == (dtype, dtype)
        of_b = of_b if function is product else of_b.swapaxes(-1, -2)
        assert_close(of_a, in_float64(g) @ b64.swapaxes(-1, -2), dtype)
        assert_close(of_b, a64.swapaxes(-1, -2) @ in_float64(g), dtype)


def test_gradients_of_parameters_are_not_rounded_to_the_dtype_of_the_computation():
    """A sum of 301 ones has no place in bfloat16, which counts in steps of 2 from 256 on."""
    x, kernel = jnp.ones((301, 2), jnp.bfloat16), jnp.zeros((2, 3))
    of_kernel, of_bias = jax.grad(
        lambda kernel, bias: dense(x, kernel, bias).astype(jnp.float32).sum(), argnums=(0, 1)
    )(kernel, jnp.zeros(3))
    assert of_kernel.tolist() == [[301.0] * 3] * 2
    assert of_bias.tolist() == [301.0] * 3


@pytest.mark.parametrize(("n", "d", "k"), SIZES)
def test_each_product_of_bfloat16_is_one_that_a_cpu_has_code_for(n, d, k):
    """Sums in float32, operands in bfloat16, the first one's rows along the sum."""

    def loss(x, kernel, bias):
        return dense(x, kernel, bias).astype(jnp.float32).sum()

    def similar(a, b):
        return product(inner_products(a, b).astype(a.dtype), b).astype(jnp.float32).sum()

    x, kernel, bias = numbers((n, d), 0, "bfloat16"), numbers((d, k), 1), numbers((k,), 2)
    programs = (
        jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(x, kernel, bias),
        jax.make_jaxpr(jax.grad(similar, argnums=(0, 1)))(x[None], x[None, :2]),
    )
    for program, count in zip(programs, ((3, 4), (6,)), strict=True):
        found = products_in(program.jaxpr)
        assert len(found) in count
        for first, second, result, summed_first in found:
            assert (first.dtype, second.dtype, result.dtype) == ("bfloat16", "bfloat16", "float32")
            assert summed_first == first.ndim - 1


def products_in(jaxpr):
    """Returns (first operand, second, result, axis of the first that is summed) of each product."""
    found = []
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            found += products_in(inner)
        if equation.primitive.name == "dot_general":
            ((summed,), _), _ = equation.params["dimension_numbers"]
            shapes = [each.aval for each in (*equation.invars, *equation.outvars)]
            found.append((*shapes, summed))
    return found


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_layer_has_the_parameters_and_values_of_flax(use_bias):
    x = numbers((2, 4, 3))
    ours, flax_s = Dense(5, use_bias), nn.Dense(5, use_bias)
    params = new_params(ours, x)
    assert trees.difference(params, new_params(flax_s, x)) == []
    np.testing.assert_array_equal(apply(ours, params, x), apply(flax_s, params, x))


def test_float32_can_be_differentiated_forward():
    x, kernel = numbers((2, 3)), numbers((3, 4))
    _, tangent = jax.jvp(lambda x: dense(x, kernel), (x,), (jnp.ones_like(x),))
    np.testing.assert_allclose(tangent, jnp.ones_like(x) @ kernel, rtol=1e-6)
    assert jax.hessian(lambda x: (dense(x, kernel) ** 2).sum())(x).shape == (2, 3, 2, 3)


def test_gradients_of_single_examples_in_bfloat16():
    x, kernel = numbers((4, 7, 3), 0, "bfloat16"), numbers((3, 5), 1)

    def loss(kernel, x):
        return dense(x, kernel).astype(jnp.float32).sum()

    together = jax.vmap(jax.grad(loss), (None, 0))(kernel, x)
    apart = jnp.stack([jax.grad(loss)(kernel, each) for each in x])
    np.testing.assert_allclose(together, apart, rtol=1e-6)
