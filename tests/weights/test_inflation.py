"""ImageNet networks become video networks: inflated in time, and refused where they do not fit."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from mg_jax.weights.files import WeightsError
from mg_jax.weights.layout import to_tensors
from mg_jax.weights.load import inflate, load_weights
from tests.published import config_of, fresh, loaded


def resnet(blocks=(3, 4, 6, 3), width=8, seed=0):
    """A state dict with the names and shapes of torchvision's and timm's ResNets, small."""
    rng = np.random.default_rng(seed)
    state = {}

    def conv(name, out, into, kernel):
        state[f"{name}.weight"] = rng.normal(size=(out, into, kernel, kernel))

    def bn(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{leaf}"] = rng.uniform(size=channels)
        state[f"{name}.num_batches_tracked"] = np.array(5)

    conv("conv1", width, 3, 7)
    bn("bn1", width)
    into = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for j in range(count):
            block = f"layer{stage + 1}.{j}"
            sizes = ((inner, into, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for k, (out, channels, kernel) in enumerate(sizes, 1):
                conv(f"{block}.conv{k}", out, channels, kernel)
                bn(f"{block}.bn{k}", out)
            if j == 0:
                conv(f"{block}.downsample.0", 4 * inner, into, 1)
                bn(f"{block}.downsample.1", 4 * inner)
            into = 4 * inner
    state["fc.weight"], state["fc.bias"] = rng.normal(size=(1000, into)), rng.normal(size=1000)
    floats = {k: v.astype(np.float32) for k, v in state.items() if v.dtype == np.float64}
    return {**state, **floats}


def write_resnet(path, **settings):
    save_file(resnet(**settings), path)
    return path


def test_an_image_network_is_inflated_into_i3d_with_non_local_blocks(tmp_path):
    path = write_resnet(tmp_path / "resnet50.safetensors")
    images, start = resnet(), fresh(config_of("i3d_nl"))
    variables, account = loaded(path, start)
    tensors = to_tensors(variables)
    np.testing.assert_array_equal(
        tensors["s1.pathway0_stem.conv.weight"][:, :, 0], images["conv1.weight"]
    )
    temporal = tensors["s4.pathway0_res5.branch2.a.weight"]
    assert temporal.shape[2] == 3
    np.testing.assert_allclose(
        temporal.sum(2), images["layer3.5.conv1.weight"], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(temporal[:, :, 0], temporal[:, :, 2])
    np.testing.assert_array_equal(
        tensors["s3.pathway0_res0.branch1_bn.running_var"],
        images["layer2.0.downsample.1.running_var"],
    )
    assert account.unused == ("fc.bias", "fc.weight")
    kept = {name for name in account.initialised if "nonlocal" not in name}
    assert kept == {"head.projection.weight", "head.projection.bias"}
    before = to_tensors(start)
    for name in account.initialised:
        np.testing.assert_array_equal(tensors[name], before[name])
    assert len(account.loaded) + len(account.initialised) == len(tensors)


def test_an_image_network_fills_the_slow_pathway_and_its_own_channels(tmp_path):
    path = write_resnet(tmp_path / "resnet50.safetensors")
    images, start = resnet(), fresh(config_of("slowfast"))
    variables, account = loaded(path, start)
    tensors, before = to_tensors(variables), to_tensors(start)
    # Where the fast pathway joins: the first block's two convolutions in each of res2 ... res5.
    assert set(account.extended) == {
        f"s{s}.pathway0_res0.{conv}.weight"
        for s in (2, 3, 4, 5)
        for conv in ("branch1", "branch2.a")
    }
    joined = tensors["s2.pathway0_res0.branch1.weight"]
    np.testing.assert_array_equal(joined[:, :8, 0], images["layer1.0.downsample.0.weight"])
    np.testing.assert_array_equal(joined[:, 8:], before["s2.pathway0_res0.branch1.weight"][:, 8:])
    assert all(re.match(r"s\d_fuse|s\d\.pathway1|head", name) for name in account.initialised)


def test_inflated_kernels_see_in_a_still_video_what_they_saw_in_its_image():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3, 5, 5)).astype(np.float32)
    image = rng.normal(size=(3, 5, 5))
    video = np.repeat(image[:, None], 3, 1)
    np.testing.assert_allclose(
        np.einsum("oithw,ithw->o", inflate(kernel, 3), video),
        np.einsum("oihw,ihw->o", kernel, image),
        rtol=1e-5,
    )


@pytest.mark.parametrize("model", ["i3d", "slowfast"])
@pytest.mark.parametrize(
    ("name", "shape"), [("conv1", (8, 1, 7, 7)), ("layer2.1.conv2", (16, 4, 3, 3))]
)
def test_image_networks_with_other_channels_are_refused(tmp_path, model, name, shape):
    state = resnet()
    state[f"{name}.weight"] = np.zeros(shape, np.float32)
    save_file(state, tmp_path / "resnet50.safetensors")
    with pytest.raises(WeightsError, match=rf"has shape \({shape[0]}, {shape[1]}, 1, .* and \("):
        load_weights(tmp_path / "resnet50.safetensors", fresh(config_of(model)))


def test_an_image_network_whose_joined_kernels_do_not_fit_is_refused(tmp_path):
    state = resnet()
    state["layer1.0.conv1.weight"] = np.zeros((8, 7, 1, 1), np.float32)
    save_file(state, tmp_path / "resnet50.safetensors")
    with pytest.raises(WeightsError, match=r"shape \(8, 7, 1, 1, 1\) in .* and \(8, 8, 1, 1, 1\)"):
        load_weights(tmp_path / "resnet50.safetensors", fresh(config_of()))


def test_image_networks_of_another_depth_are_refused(tmp_path):
    path = write_resnet(tmp_path / "resnet101.safetensors", blocks=(3, 4, 23, 3))
    with pytest.raises(WeightsError, match=r"holds .* 3-4-23-3 blocks"):
        load_weights(path, fresh(config_of("i3d")))
