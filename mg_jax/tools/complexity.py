"""Parameters of a config's model and multiply-adds on each grid of its schedule.

    python -m mg_jax.tools.complexity --config=configs/kinetics_slowfast.py

Multiply-adds are half the floating-point operations of a forward pass by XLA's own cost analysis,
with every convolution in its plain 3-D form.
"""

import sys
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from mg_jax.input.prepared import with_classes
from mg_jax.models import create_model
from mg_jax.models.conv import Conv, convolve_3d
from mg_jax.recipe import schedule_from_config
from mg_jax.tools import command_line
from mg_jax.training.state import init_variables

flags.adopt_module_key_flags(command_line)


def parameters(config) -> int:
    """Number of trained parameters of the config's model."""
    params = jax.eval_shape(lambda: init_variables(config))["params"]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def multiply_adds(config, frames: int, size: int) -> float:
    """Multiply-adds of inference on one clip of `frames` x `size` x `size`, from the compiler."""
    model = create_model(config.model, train=False)
    variables = jax.eval_shape(lambda: init_variables(config))
    clips = jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)
    with nn.intercept_methods(_convolve_in_3d):
        return jax.jit(model.apply).lower(variables, clips).cost_analysis()["flops"] / 2


def _convolve_in_3d(
    call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
):
    """Puts the plain 3-D convolution in the place of the fast forms, which count otherwise."""
    conv = context.module
    if not isinstance(conv, Conv) or context.method_name != "__call__":
        return call(*args, **kwargs)
    x, kernel = (a.astype(conv.dtype) for a in (args[0], conv.get_variable("params", "kernel")))
    return convolve_3d(x, kernel, conv.strides)


def format_complexity(config) -> str:
    """A table: parameters, then a line for each distinct clip of the schedule, largest first."""
    schedule = schedule_from_config(config)
    config = with_classes(config)
    clips = {(grid.frames, grid.size) for phase in schedule.phases for grid in phase.grids}
    lines = [f"{parameters(config):,} parameters", "", "frames x size^2  GFLOPs per clip"]
    for frames, size in sorted(clips, reverse=True):
        text = f"{frames} x {size}^2"
        lines.append(f"{text:>15}  {multiply_adds(config, frames, size) / 1e9:>15.4g}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Prints the table of --config."""
    if len(argv) > 1 or command_line.CONFIG.value is None:
        sys.exit("error: give --config=FILE and --config.KEY=VALUE, nothing else")
    logging.set_verbosity(logging.WARNING)
    command_line.stay_on_cpu()
    with command_line.signals_as_statuses(), command_line.errors_as_messages():
        print(format_complexity(command_line.CONFIG.value))


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
