"""The models against the authors' PyTorch ones: same weights, same input, same numbers.

The files of `golden/` hold weights, input and results of the published models at width 8, ten
classes, computed in float32 on CPU.
"""

import pathlib

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mg_jax.models import create_model

GOLDEN = pathlib.Path(__file__).parent / "golden"


def load(name):
    """Arrays of a golden file, and the variables in our layout."""
    arrays = dict(np.load(GOLDEN / f"{name}_r50_w8.npz"))
    params, stats = {}, {}
    for key, value in arrays.items():
        if not key.startswith("state_dict/"):
            continue
        *path, leaf = key.removeprefix("state_dict/").split(".")
        if leaf.startswith("running"):
            stats[*path, leaf.removeprefix("running_")] = value
        elif value.ndim == 5:  # O I T H W
            params[*path, "kernel"] = value.transpose(2, 3, 4, 1, 0)
        elif value.ndim == 2:
            params[*path, "kernel"] = value.T
        elif leaf in ("weight", "bias"):
            params[*path, "scale" if leaf == "weight" else "bias"] = value
    return arrays, {"params": unflatten_dict(params), "batch_stats": unflatten_dict(stats)}


def published_model(name, **use):
    config = ConfigDict(
        {
            "name": name,
            "depth": 50,
            "width": 8,
            "alpha": 4,
            "beta": 1 / 8,
            "num_classes": 10,
            "dropout": 0.0,
            "dtype": "float32",
        }
    )
    return create_model(config, **use)


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_inference_gives_the_published_logits(name):
    arrays, variables = load(name)
    model = published_model(name, train=False)
    logits = jax.jit(model.apply)(variables, arrays["input_q32"].astype(np.float32) / 32)
    expected = arrays["logits_eval"]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_training_gives_the_published_logits_loss_and_statistics(name):
    arrays, variables = load(name)
    sub_batch, clips = int(arrays["sub_batch_size"]), len(arrays["labels"])
    # There, clip i is in group i mod s; here, groups are runs of neighbours.
    order = np.arange(clips).reshape(sub_batch, -1).T.ravel()
    model = published_model(name, train=True, sub_batch=sub_batch)
    inputs = arrays["input_q32"][order].astype(np.float32) / 32
    logits, updated = jax.jit(lambda v, x: model.apply(v, x, mutable=["batch_stats"]))(
        variables, inputs
    )
    expected = arrays["logits_train"][order]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    labels = arrays["labels"][order]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    assert float(loss) == pytest.approx(float(arrays["loss_train"]), rel=1e-5)
    for path, value in flatten_dict(updated["batch_stats"]).items():
        after = arrays[f"after/{'.'.join(path[:-1])}.running_{path[-1]}"]
        np.testing.assert_allclose(value, after, atol=1e-2 * np.abs(after).max())
