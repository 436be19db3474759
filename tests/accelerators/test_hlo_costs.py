"""Costs that are counted from a program's text, against closed forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding

from mg_jax.accelerators.compilation import compile_absent
from mg_jax.accelerators.devices import ACCELERATORS
from mg_jax.accelerators.hlo_costs import program_costs
from mg_jax.accelerators.hlo_text import parse_module
from mg_jax.accelerators.roofline import kernel_seconds, program_seconds
from mg_jax.runtime import parallel
from tests import absent

BF16, F32 = jnp.bfloat16, jnp.float32


def costs_of(function, *arrays, mesh=None, spec=parallel.REPLICATED):
    """Costs for an H100 of a function of arrays, each (shape, dtype)."""
    mesh = mesh or absent.mesh("h100")
    sharding = NamedSharding(mesh, spec)
    shapes = [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype in arrays]
    return program_costs(compile_absent(jax.jit(function).lower(*shapes), mesh))


def only(costs, kind):
    """The one kernel of a kind."""
    (kernel,) = (kernel for kernel in costs.kernels if kernel.kind == kind)
    return kernel


@pytest.mark.parametrize(
    ("dtype", "precision", "expected"),
    [(BF16, None, "bf16"), (F32, None, "tf32"), (F32, "highest", "fp32")],
)
def test_a_matrix_product_reads_and_writes_once(dtype, precision, expected):
    arrays = ((512, 256), dtype), ((256, 1024), dtype)
    costs = costs_of(lambda a, b: jnp.matmul(a, b, precision=precision), *arrays)
    kernel = only(costs, "matrix product")
    elements = 512 * 256 + 256 * 1024 + 512 * 1024
    assert kernel.bytes == elements * jnp.dtype(dtype).itemsize == costs.bytes
    assert kernel.flops == 2 * 512 * 256 * 1024 == costs.flops
    assert kernel.precision == expected
    # Beside its arguments and its result there is what cuBLAS works with.
    assert costs.memory_bytes - costs.temp_bytes == costs.bytes


def convolve(x_BHWC, kernel_HWIO):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x_BHWC, kernel_HWIO, (2, 2), ((1, 1), (1, 1)), dimension_numbers=numbers
    )


def test_a_convolution_and_its_gradients_take_the_same_product():
    x, kernel = ((8, 32, 32, 16), BF16), ((3, 3, 16, 64), BF16)

    def gradients(x_BHWC, kernel_HWIO):
        return jax.grad(lambda *a: (convolve(*a) ** 2).sum(), (0, 1))(x_BHWC, kernel_HWIO)

    flops = 2 * (8 * 16 * 16) * 64 * (3 * 3 * 16)
    moved = 2 * (8 * 32 * 32 * 16 + 3 * 3 * 16 * 64 + 8 * 16 * 16 * 64)
    costs = costs_of(gradients, x, kernel)
    kinds = ("forward", "to input", "to weights")
    kernels = [only(costs, f"convolution {kind}") for kind in kinds]
    assert [kernel.flops for kernel in kernels] == 3 * [flops]
    # The forward one doubles its result as well, by a factor for each channel.
    assert [kernel.bytes for kernel in kernels[1:]] == 2 * [moved]
    assert kernels[0].bytes - moved in (0, 2 * 64)
    assert [kernel.direction for kernel in kernels] == ["forward", "backward", "backward"]


def test_other_layouts_are_transpositions_and_other_names_are_not():
    x = ((1024, 512), F32)
    kernel = only(costs_of(lambda x: x.T, x), "transposition")
    assert kernel.bytes == 2 * 4 * 1024 * 512
    costs = costs_of(lambda x: x.reshape(512, 1, 1024).transpose(1, 0, 2) + 1, x)
    assert only(costs, "elementwise").bytes == costs.bytes == 2 * 4 * 1024 * 512


def test_a_reduction_reads_everything_and_writes_little():
    costs = costs_of(lambda x: x.sum(0), ((1024, 512), F32))
    assert only(costs, "reduction").bytes == 4 * (1024 * 512 + 512)


def test_of_slices_and_updates_only_their_elements_count():
    x = ((1024, 512), F32)
    assert costs_of(lambda x: 2 * x[:10], x).bytes == 2 * 4 * 10 * 512
    costs = costs_of(lambda x, y: (2 * x).at[3:5].set(y), x, ((2, 512), F32))
    assert costs.bytes == 2 * 4 * 1024 * 512 + 2 * 4 * 2 * 512


def test_a_loop_counts_its_turns():
    def turns(x):
        return lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, None, length=7)[0]

    costs = costs_of(turns, ((256, 256), F32))
    assert only(costs, "matrix product").calls == 7
    assert costs.flops == 7 * 2 * 256**3


@pytest.mark.parametrize(("per_host", "hosts"), [(8, 1), (4, 2)])
def test_a_mean_over_devices_is_one_collective(per_host, hosts):
    mesh = absent.mesh("h100", per_host, hosts)
    mean = parallel.pmap(
        lambda x: lax.pmean(x, parallel.AXIS), mesh, (parallel.SPLIT,), parallel.REPLICATED
    )
    costs = costs_of(mean, ((1024, 512), F32), mesh=mesh, spec=parallel.SPLIT)
    assert only(costs, "collective").bytes == 2 * 4 * 128 * 512


class Net(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(256, use_bias=False, name="s1")(x)
        return jnp.sin(nn.Dense(128, use_bias=False, name="s2")(jnp.sin(x)))


def test_kernels_know_their_layer():
    def loss(params, x):
        return Net().apply({"params": params}, x).sum()

    def step(x, w1, w2):
        params = {"s1": {"kernel": w1}, "s2": {"kernel": w2}}
        return jax.grad(loss)(params, x)

    arrays = ((512, 64), F32), ((64, 256), F32), ((256, 128), F32)
    costs = costs_of(step, *arrays)
    products = [kernel for kernel in costs.kernels if kernel.kind == "matrix product"]
    assert sorted((kernel.layer, kernel.direction) for kernel in products) == [
        ("s1", "backward"),
        ("s1", "forward"),
        ("s2", "backward"),
        ("s2", "backward"),
        ("s2", "forward"),
    ]


def test_time_is_bound_by_memory_or_by_arithmetic():
    h100 = ACCELERATORS["h100"]
    side = 8192
    costs = costs_of(lambda a, b: a @ b, ((side, side), BF16), ((side, side), BF16))
    assert program_seconds(costs, h100) == pytest.approx(2 * side**3 / 989.4e12)
    costs = costs_of(lambda a: a + 1, ((side, side), BF16))
    assert kernel_seconds(costs.kernels[0], h100) == pytest.approx(2 * 2 * side**2 / 3.35e12)


def test_sizes_on_a_tpu_are_those_of_whole_tiles():
    text = """HloModule m
    ENTRY %main (a: f32[3,5]) -> bf16[5,3] {
      %a = f32[3,5]{1,0:T(8,128)} parameter(0)
      %b = f32[3,5]{1,0:T(8,128)S(1)} negate(%a)
      ROOT %c = bf16[5,3]{0,1:T(8,128)(2,1)} convert(%b)
    }""".replace("\n    ", "\n")
    module = parse_module(text)
    a, b, c = (i.arrays[0] for i in module.computations[module.entry].values())
    assert (a.bytes, b.bytes, c.bytes) == (4 * 8 * 128, 0, 2 * 8 * 128)
    assert a.elements == 15
