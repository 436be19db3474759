"""The authors' PyTorch models: weights, input and results, as the files of `golden/` hold them.

All are at width 8 with ten classes, computed in float32 on CPU.
"""

import functools
import json
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.base import get_base
from mg_jax.models import create_model
from mg_jax.runtime import xla_options
from mg_jax.training.state import init_variables
from mg_jax.weights.layout import to_variables
from mg_jax.weights.load import load_weights
from tests.xla_flags import OPTIMISED

GOLDEN = pathlib.Path(__file__).parent / "golden"
POSITIONS = ((), (1, 3), (1, 3, 5), ())
MODELS = ["slowfast", "i3d", "i3d_nl"]


def model_config(name):
    """The config of a golden model."""
    config = ConfigDict(get_base().model)
    config.name = name.removesuffix("_nl")
    config.width, config.num_classes, config.dropout = 8, 10, 0.0
    if name.endswith("_nl"):
        config.non_local.positions = POSITIONS
    return config


def load(name):
    """Arrays of a golden file, and the weights in it as our variables."""
    arrays = dict(np.load(GOLDEN / f"{name}_r50_w8.npz"))
    return arrays, to_variables(published_tensors(arrays))


def published_tensors(arrays):
    """The state dict of a golden file."""
    prefix = "state_dict/"
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def eval_logits(name, arrays, variables):
    """Logits of the golden input by running statistics."""
    model = create_model(model_config(name), train=False)
    apply = jax.jit(model.apply, compiler_options={**xla_options.CPU, **OPTIMISED})
    return apply(variables, arrays["input_q32"].astype(np.float32) / 32)


def assert_logits(logits, expected):
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def config_of(name="slowfast", **model):
    config = get_base()
    config.model.name = name.removesuffix("_nl")
    config.model.update({"width": 8, "num_classes": 10})
    if name.endswith("_nl"):
        config.model.non_local.positions = POSITIONS
    config.model.update(model)
    return config


def fresh(config):
    """Variables of the model's shapes, random, since compiling their initialisation takes long."""
    rng = np.random.default_rng(1)
    shapes = _shapes(config.model.to_json())
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


@functools.cache
def _shapes(model):
    """The shapes of a network's variables by its settings, since tracing takes seconds."""
    config = get_base()
    config.model = ConfigDict(json.loads(model))
    return jax.eval_shape(lambda: init_variables(config))


def loaded(path, variables):
    """Variables with a file's weights in their places, and the account."""
    weights = load_weights(path, variables)
    return weights.variables(lambda: variables), weights.account
