"""Multiply-adds from the compiler against a count of the convolutions' own."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from configs.study import get_config
from mg_jax.models import create_model
from mg_jax.models.conv import Conv
from mg_jax.models.norm import SubBatchNorm
from mg_jax.tools.complexity import format_complexity, multiply_adds
from mg_jax.training.state import init_variables


def taps(extent, kernel, stride):
    """Pairs of output and tap along an axis that do not fall on padding."""
    starts = np.arange(0, extent, stride) - kernel // 2
    return sum(((at >= 0) & (at < extent)).sum() for at in (starts + k for k in range(kernel)))


def convolutions(config, frames, size):
    """Multiply-adds of all convolutions, without taps on padding."""
    counts = []

    def intercept(call, args, kwargs, context):
        module = context.module
        if isinstance(module, Conv) and context.method_name == "__call__":
            clips, *extent, channels = args[0].shape
            axes = zip(extent, module.kernel, module.strides, strict=True)
            counts.append(clips * channels * module.features * np.prod([taps(*a) for a in axes]))
        elif isinstance(module, SubBatchNorm) and len(args) == 2:
            # The last convolution of a bottleneck, 1 x 1 x 1.
            counts.append(np.prod(args[0].shape) * args[1].shape[-1])
        return call(*args, **kwargs)

    clips = jax.ShapeDtypeStruct((1, frames, size, size, 3), np.float32)
    variables = jax.eval_shape(lambda: init_variables(config))
    with nn.intercept_methods(intercept):
        jax.eval_shape(create_model(config.model, train=False).apply, variables, clips)
    return sum(counts)


@pytest.mark.parametrize("name", ["i3d", "slowfast"])
def test_multiply_adds_are_those_of_the_convolutions(name):
    config = get_config()
    config.model.name, config.model.width = name, 64
    expected = convolutions(config, 8, 112)
    # With norms and sums.
    assert expected < multiply_adds(config, 8, 112) < 1.01 * expected


def test_the_table_has_a_line_for_each_clip_of_the_schedule():
    lines = format_complexity(get_config()).splitlines()
    assert lines[0].endswith(" parameters")
    shapes = [line.split("^")[0].strip() for line in lines[3:]]
    assert shapes[0] == "8 x 40"
    assert shapes[-1] == "2 x 20"
    assert len(shapes) == len(set(shapes)) == 8
