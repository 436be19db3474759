"""The building blocks of the networks in the forms that we run, beside others of equal results.

Forward and backward together, in one run on one device. Which form is fastest depends on the
device: those in `mg_jax/models` should be the fastest on the devices that most people train on.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mg_jax.machine.progress import say, shown
from mg_jax.models.conv import (
    convolve,
    convolve_3d,
    convolve_3x3_by_columns,
    convolve_time,
)
from mg_jax.models.conv2d import stack_frames
from mg_jax.models.norm import batch_norm
from mg_jax.models.pooling import max_pool_3x3
from mg_jax.models.precision import at_least_float32
from mg_jax.models.stem_conv import convolve_7x7_by_2, frames_apart
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import xla_options

Form = Callable[..., jax.Array]
_ROUNDS = 5
# With fewer channels than these, tensor cores idle.
_TENSOR_CORE = 16


def measure(config, clips: int) -> dict[str, Any]:
    """Times the main kinds of blocks of a SlowFast network on the config's base grid.

    Args:
      config: of a run: frames, size, and the model's width, alpha, beta and dtype.
      clips: in a batch.
    """
    schedule_from_config(config)  # checks it
    print(_HEADER)
    rows = []
    every = blocks(config, clips)
    for name, shape, forms in shown(every, "measuring", "block", len(every)):
        seconds = _seconds(shape, forms, config.model.dtype)
        for form, median in seconds.items():
            row = {"block": name, "input": shape, "form": form, "seconds": median}
            rows.append({**row, "of_ours": median / seconds["ours"]})
            say(_line(rows[-1]))
    return {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "dtype": config.model.dtype,
        "blocks": rows,
    }


def blocks(config, clips: int) -> list[tuple[str, tuple[int, ...], dict[str, tuple]]]:
    """Name, shape of the input, and by form the function and the shapes of its parameters."""
    fast, side, width = config.frames, config.size, config.model.width
    slow, thin = fast // config.model.alpha, round(width * config.model.beta)
    over_frames, fusion = (config.model.fusion_frames, 1, 1), (config.model.alpha, 1, 1)
    kernels = [
        ("slow stem", slow, 1, 3, (1, 7, 7), width, (1, 2, 2)),
        ("fast stem", fast, 1, 3, (5, 7, 7), thin, (1, 2, 2)),
        ("slow res2 b", slow, 4, width, (1, 3, 3), width, (1, 1, 1)),
        ("slow res2 c", slow, 4, width, (1, 1, 1), 4 * width, (1, 1, 1)),
        ("slow res3 b, strided", slow, 4, 2 * width, (1, 3, 3), 2 * width, (1, 2, 2)),
        ("slow res4 a", slow, 16, 16 * width, (3, 1, 1), 4 * width, (1, 1, 1)),
        ("fast res2 a", fast, 4, 4 * thin, (3, 1, 1), thin, (1, 1, 1)),
        ("fast res2 b", fast, 4, thin, (1, 3, 3), thin, (1, 1, 1)),
        ("fast to slow", fast, 4, 4 * thin, over_frames, 8 * thin, fusion),
    ]
    platform = jax.default_backend()
    blocks = []
    for name, frames, scale, channels, kernel, features, strides in kernels:
        shape = (clips, frames, side // scale, side // scale, channels)
        # The gradient of pixels is not needed.
        given = _without_input_gradient if channels == 3 else lambda form: form
        weights = (*kernel, channels, features)
        forms = {
            "ours": (given(partial(convolve, strides=strides, platform=platform)), weights),
            "3-D": (given(partial(convolve_3d, strides=strides)), weights),
        }
        if kernel[1:] == (7, 7):
            by_2 = _stem_by_blocks
            forms["2-D of pixels"] = (given(_stem_by_pixel), weights)
            forms["2-D of 2 x 2 pixels"] = (given(partial(by_2, pad_first=False)), weights)
            forms["the same, padded first"] = (given(partial(by_2, pad_first=True)), weights)
            in_pairs = jnp.dtype(config.model.dtype).itemsize == 2
            for n in (4, 8) if kernel[0] > 1 else ():
                form = partial(by_2, pad_first=True, frames_at_once=n, by_words=in_pairs)
                how = ", in pairs" if in_pairs else ""
                forms[f"the same, {n} frames at once{how}"] = (given(form), weights)
        if channels == features < _TENSOR_CORE:
            forms["wider channels"] = (partial(_convolve_wider, strides=strides), weights)
        by_columns = {"fast res2 b": _convolve_columns, "fast res2 a": _convolve_time}
        for n in (1, 4) if name in by_columns else ():
            forms[f"{n} columns at once"] = (partial(by_columns[name], columns=n), weights)
        blocks.append((f"{name}, {'x'.join(map(str, kernel))}", shape, forms))
    pooled = (clips, slow, side // 2, side // 2, width)
    ours = partial(max_pool_3x3, platform=platform)
    blocks.append(("max-pool", pooled, {"ours": (ours,), "windows": (_window_max_pool,)}))
    sub_batch = math.gcd(config.sub_batch, clips)
    normed = {
        "ours": partial(_ours_norm_relu, platform),
        "automatic gradient": _automatic_norm_relu,
    }
    forms = {name: (partial(f, sub_batch), (width,), (width,)) for name, f in normed.items()}
    blocks.append(("BN and ReLU", pooled, forms))
    return blocks


def _without_input_gradient(form: Form) -> Form:
    return lambda x_BTHWC, kernel_THWIO: form(lax.stop_gradient(x_BTHWC), kernel_THWIO)


def _convolve_wider(x_BTHWC: jax.Array, kernel_THWIO: jax.Array, strides) -> jax.Array:
    """Pads the channels with zeros to as many as tensor cores take."""
    more = _TENSOR_CORE - x_BTHWC.shape[-1]
    x_BTHWC = jnp.pad(x_BTHWC, [(0, 0)] * 4 + [(0, more)])
    kernel_THWIO = jnp.pad(kernel_THWIO, [(0, 0)] * 3 + [(0, more)] * 2)
    return convolve(x_BTHWC, kernel_THWIO, strides)[..., :-more]


def _convolve_columns(x_BTHWC: jax.Array, kernel_THWIO: jax.Array, columns: int) -> jax.Array:
    return convolve_3x3_by_columns(x_BTHWC, kernel_THWIO[0], columns)


def _convolve_time(x_BTHWC: jax.Array, kernel_THWIO: jax.Array, columns: int) -> jax.Array:
    return convolve_time(x_BTHWC, kernel_THWIO[:, 0], 1, columns)


def _stem_by_blocks(
    x_BTHWC: jax.Array, kernel_THWIO: jax.Array, *, frames_at_once: int = 1, **form: bool
) -> jax.Array:
    y = convolve_7x7_by_2(x_BTHWC, kernel_THWIO, frames_at_once=frames_at_once, **form)
    return frames_apart(y, frames_at_once)


def _stem_by_pixel(x_BTHWC: jax.Array, kernel_THWIO: jax.Array) -> jax.Array:
    """The stem as a 2-D convolution with stride 2."""
    time, height, width, _, features = kernel_THWIO.shape
    if time > 1:
        x_BTHWC = stack_frames(x_BTHWC, time, 1)
    B, T, *image = x_BTHWC.shape
    x_BHWC = x_BTHWC.reshape(B * T, *image)
    kernel_HWIO = kernel_THWIO.transpose(1, 2, 0, 3, 4).reshape(height, width, -1, features)
    numbers = ("NHWC", "HWIO", "NHWC")
    pads = ((3, 3), (3, 3))
    y = lax.conv_general_dilated(x_BHWC, kernel_HWIO, (2, 2), pads, dimension_numbers=numbers)
    return y.reshape(B, T, *y.shape[1:])


def _window_max_pool(x_BTHWC: jax.Array) -> jax.Array:
    pads = ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x_BTHWC, -jnp.inf, lax.max, (1, 1, 3, 3, 1), (1, 1, 2, 2, 1), pads)


def _ours_norm_relu(platform, sub_batch, x_BTHWC, scale_C, bias_C) -> jax.Array:
    scale_C, bias_C = at_least_float32(scale_C), at_least_float32(bias_C)
    return nn.relu(batch_norm(x_BTHWC, scale_C, bias_C, sub_batch, None, 1e-5, platform)[0])


def _automatic_norm_relu(sub_batch, x_BTHWC, scale_C, bias_C) -> jax.Array:
    x = at_least_float32(x_BTHWC).reshape(-1, sub_batch, *x_BTHWC.shape[1:])
    mean = jnp.mean(x, (1, 2, 3, 4), keepdims=True)
    square = jnp.mean(jnp.square(x), (1, 2, 3, 4), keepdims=True)
    factor = scale_C * lax.rsqrt(square - jnp.square(mean) + 1e-5)
    y = (x * factor + bias_C - mean * factor).reshape(x_BTHWC.shape)
    return nn.relu(y.astype(x_BTHWC.dtype))


def _seconds(shape: tuple[int, ...], forms: dict[str, tuple], dtype: str) -> dict[str, float]:
    """Median time of a forward and backward pass of each form, measured in turns."""
    calls, seconds = {}, {form: [] for form in forms}
    options = xla_options.for_run(jax.default_backend(), deterministic=False)
    for form, (function, *parameters) in forms.items():
        keys = iter(jax.random.split(jax.random.key(0), 2 + len(parameters)))
        inputs = [jax.random.normal(next(keys), s).astype(dtype) for s in (shape, *parameters)]
        out = jax.eval_shape(function, *inputs)
        gradient = jax.random.normal(next(keys), out.shape).astype(dtype)
        calls[form] = partial(
            jax.jit(partial(_both, function), compiler_options=options), gradient, *inputs
        )
        jax.block_until_ready(calls[form]())
    for _ in range(_ROUNDS):
        for form, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[form].append(time.perf_counter() - start)
    return {form: float(np.median(s)) for form, s in seconds.items()}


def _both(function: Form, gradient: jax.Array, *inputs: jax.Array) -> Any:
    y, backward = jax.vjp(function, *inputs)
    return y, backward(gradient)


_HEADER = f"{'block':<32} {'input':<24} {'form':<20} {'ms':>9} {'of ours':>8}"


def _line(row: dict[str, Any]) -> str:
    shape = " x ".join(map(str, row["input"]))
    return (
        f"{row['block']:<32} {shape:<24} {row['form']:<20} {1e3 * row['seconds']:>9.2f} "
        f"{row['of_ours']:>8.2f}"
    )
