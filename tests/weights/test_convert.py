"""Weights in and out: published files, whole and broken, and our own."""

import pickle
import re
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs.base import get_base
from mg_jax.tools.convert import convert
from mg_jax.weights.files import WeightsError, read_tensors
from mg_jax.weights.layout import to_tensors
from mg_jax.weights.load import load_weights
from tests import runs
from tests.published import (
    GOLDEN,
    assert_logits,
    config_of,
    eval_logits,
    fresh,
    loaded,
    published_tensors,
)


def golden(name):
    return dict(np.load(GOLDEN / f"{name}.npz"))


def assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


@pytest.mark.parametrize("name", ["slowfast", "i3d_nl"])
def test_caffe2_pickles_hold_the_weights_of_the_pytorch_files(name):
    variables, account = loaded(GOLDEN / f"{name}_r50_w8_caffe2.pkl", fresh(config_of(name)))
    assert_same(to_tensors(variables), published_tensors(golden(f"{name}_r50_w8")))
    # conv1_w_momentum, lr and model_iter
    assert (account.unused, account.training_only) == ((), 3)
    assert not account.initialised


def test_pytorchvideo_names_give_the_published_logits(tmp_path):
    arrays = golden("pytorchvideo_slowfast_r50_w8")
    path = tmp_path / "weights.safetensors"
    save_file(published_tensors(arrays), path)
    variables, account = loaded(path, fresh(config_of()))
    assert_logits(eval_logits("slowfast", arrays, variables), arrays["logits_eval"])
    assert not account.unused
    assert not account.initialised


@pytest.mark.parametrize("key", [None, "model_state", "state_dict"])
def test_pytorch_checkpoints_are_read_with_counters_and_prefix(tmp_path, key, torch):
    expected = published_tensors(golden("i3d_r50_w8"))
    state = {f"module.{name}": torch.from_numpy(value) for name, value in expected.items()}
    norms = [name for name in state if name.endswith(".running_mean")]
    for name in norms:
        state[name.replace("running_mean", "num_batches_tracked")] = torch.tensor(7)
    state["module.s9.extra.weight"] = torch.zeros(3)
    path = tmp_path / "checkpoint.pyth"
    torch.save(state if key is None else {"epoch": 3, key: state, "cfg": "A: 1"}, path)
    variables, account = loaded(path, fresh(config_of("i3d")))
    assert_same(to_tensors(variables), expected)
    assert account.unused == ("s9.extra.weight",)
    assert account.training_only == len(norms) == 53
    assert "  53 training-only values left out" in str(account).splitlines()
    assert "num_batches_tracked" not in str(account)


def test_a_pytorch_checkpoint_without_pytorch_says_what_to_install(tmp_path, monkeypatch, torch):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"needs PyTorch, which is not installed: pip install"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("suffix", [".pyth", ".safetensors"])
def test_half_precision_is_widened_without_loss(tmp_path, dtype, suffix, torch, torch_files):
    tensors = {
        name: torch.from_numpy(value).to(getattr(torch, dtype))
        for name, value in published_tensors(golden("i3d_r50_w8")).items()
    }
    path = tmp_path / f"half{suffix}"
    (torch.save if suffix == ".pyth" else torch_files.save_file)(tensors, path)
    expected = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    assert_same(read_tensors(path), expected)


def test_other_dtypes_are_named(tmp_path, torch, torch_files):
    path = tmp_path / "w.safetensors"
    torch_files.save_file({"conv1.weight": torch.zeros(3, dtype=torch.float8_e4m3fn)}, path)
    with pytest.raises(WeightsError, match=r"conv1.weight of .* has dtype F8_E4M3; .* F64, F32"):
        read_tensors(path)


def test_a_full_width_slowfast_goes_out_and_in_with_the_same_bits(tmp_path):
    config = get_base()
    variables = fresh(config)
    tensors = to_tensors(variables)
    assert len(tensors) == 552
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / "a.safetensors")
    account = convert(config, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "552 tensors loaded" in account
    assert_same(load_file(tmp_path / "b.safetensors"), tensors)
    convert(config, tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    zeros = jax.tree.map(np.zeros_like, variables)
    again, _ = loaded(tmp_path / "b.safetensors", zeros)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pytorch_reads_what_we_write(tmp_path, torch_files):
    source = GOLDEN / "slowfast_r50_w8_caffe2.pkl"
    convert(config_of(), source, tmp_path / "out.safetensors")
    state = torch_files.load_file(tmp_path / "out.safetensors")
    expected = published_tensors(golden("slowfast_r50_w8"))
    assert_same({name: tensor.numpy() for name, tensor in state.items()}, expected)


def test_another_number_of_classes_initialises_the_classifier_and_says_so(tmp_path):
    config = config_of("i3d", num_classes=7)
    save_file(published_tensors(golden("i3d_r50_w8")), tmp_path / "i3d.safetensors")
    start = fresh(config)
    variables, account = loaded(tmp_path / "i3d.safetensors", start)
    assert set(account.initialised) == {"head.projection.weight", "head.projection.bias"}
    np.testing.assert_array_equal(
        variables["params"]["head"]["projection"]["kernel"],
        start["params"]["head"]["projection"]["kernel"],
    )
    assert "2 newly initialised: head.projection" in str(account)


def cut(path, source):
    """A file that stops half-way."""
    data = source.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".pyth", ".safetensors"])
def test_truncated_files_are_named_as_damaged(tmp_path, suffix, torch):
    tensors = published_tensors(golden("slowfast_r50_w8"))
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pkl":
        whole = GOLDEN / "slowfast_r50_w8_caffe2.pkl"
    elif suffix == ".pyth":
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, whole)
    else:
        save_file(tensors, whole)
    damaged = cut(tmp_path / f"cut{suffix}", whole)
    said = rf"{re.escape(str(damaged))} is damaged or no .* copy or download it again"
    with pytest.raises(WeightsError, match=said):
        load_weights(damaged, fresh(config_of()))


def test_what_is_no_checkpoint_is_told_by_how_it_begins(tmp_path, torch):
    for content, reason in (
        (b"1.5 is no tensor\n", "it begins with b'1.5 is no"),
        (b"", "it is empty"),
    ):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=rf"w\.pth is damaged or no .*{re.escape(reason)}"):
            read_tensors(tmp_path / "w.pth")
    torch.save({"bias": torch.zeros(3)}, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"cut\.pth is damaged or no .*: its end is missing"):
        read_tensors(cut(tmp_path / "cut.pth", tmp_path / "whole.pth"))


def test_a_checkpoint_with_other_bytes_in_a_tensor_is_named_as_damaged(tmp_path, torch):
    path = tmp_path / "w.pyth"
    torch.save({"model_state": {"head.projection.bias": torch.full((1000,), 3.0)}}, path)
    content = bytearray(path.read_bytes())
    start = content.index(np.full(1000, 3, np.float32).tobytes())
    content[start + 8 : start + 12] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pyth is damaged .* checksum .* download it again"):
        read_tensors(path)


WRONG = {
    "model": (config_of("i3d"), r"holds 2 pathway\(s\) .* the config's model has 1 pathway"),
    "depth": (config_of(depth=101), r"holds .* 3-4-6-3 blocks.* has .* 3-4-23-3 blocks"),
    "non-local": (
        config_of("slowfast_nl"),
        r"non-local blocks: none; the config's model has .*after res3_1, res3_3, res4_1",
    ),
    "width": (
        config_of(width=16),
        r"head.projection.weight has shape \(10, 288\) in .* and \(10, 576\) in the config's",
    ),
    "beta": (config_of(beta=1 / 4), r"has shape .* model.beta as the weights were trained"),
}


@pytest.mark.parametrize("suffix", [".pkl", ".pyth", ".safetensors"])
@pytest.mark.parametrize("kind", WRONG)
def test_weights_of_another_network_are_refused(tmp_path, suffix, kind, torch):
    path = GOLDEN / "slowfast_r50_w8_caffe2.pkl"
    tensors = published_tensors(golden("pytorchvideo_slowfast_r50_w8"))
    if suffix == ".pyth":
        path = tmp_path / "w.pyth"
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)
    elif suffix == ".safetensors":
        path = tmp_path / "w.safetensors"
        save_file(tensors, path)
    config, message = WRONG[kind]
    with pytest.raises(WeightsError, match=message):
        load_weights(path, fresh(config))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    tensors = published_tensors(golden("i3d_r50_w8"))
    tensors["s5.pathway0_res1.branch2.c_bn.weight"][3] = np.nan
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"s5.pathway0_res1.branch2.c_bn.weight .* not finite"):
        load_weights(tmp_path / "w.safetensors", fresh(config_of("i3d")))


def test_a_missing_tensor_is_named(tmp_path):
    tensors = published_tensors(golden("i3d_r50_w8"))
    del tensors["s3.pathway0_res2.branch2.b_bn.running_mean"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"lacks 1 tensors: s3.pathway0_res2.branch2.b_bn.run"):
        load_weights(tmp_path / "w.safetensors", fresh(config_of("i3d")))


class Harmful:
    def __reduce__(self):
        return print, ("code of the pickle ran",)


@pytest.mark.parametrize("suffix", [".pkl", ".pyth"])
def test_code_in_a_pickle_does_not_run(tmp_path, capsys, suffix, torch):
    path = tmp_path / f"harmful{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"blobs": {"conv1_w": Harmful()}}))
    else:
        torch.save({"conv1.weight": Harmful()}, path)
    with pytest.raises(WeightsError, match="is damaged or no"):
        read_tensors(path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.safetensors", None, "there is no file"),
        ("notes.txt", b"x", "of no known kind; there are .safetensors, .pyth"),
        ("other.pkl", pickle.dumps([1, 2]), "has no 'blobs'"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_tensors(tmp_path / name)


def test_unknown_names_are_shown(tmp_path):
    save_file({"encoder.weight": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"encoder\.weight.* known are PySlowFast's"):
        load_weights(tmp_path / "w.safetensors", fresh(config_of("i3d")))


def test_the_command_converts_explains_itself_and_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")  # it opens no accelerator
    out = tmp_path / "out.safetensors"
    model = ["--config.model.width=8", "--config.model.num_classes=10"]
    base = ["--config=configs/kinetics_slowfast.py", *model]
    source = f"--input={GOLDEN / 'slowfast_r50_w8_caffe2.pkl'}"
    done = runs.convert(*base, source, f"--output={out}")
    assert done.returncode == 0, done.stderr
    assert "552 tensors loaded" in done.stdout
    assert "3 training-only values left out" in done.stdout
    assert_same(load_file(out), published_tensors(golden("slowfast_r50_w8")))
    refused = runs.convert(
        *base, "--config.model.depth=101", source, f"--output={tmp_path / 'x.safetensors'}"
    )
    assert refused.returncode == 1
    assert refused.stderr.strip().startswith("error: ")
    assert not (tmp_path / "x.safetensors").exists()
    folder = runs.convert(*base, source, f"--output={tmp_path}")
    assert "must be a file that ends in .safetensors" in folder.stderr
    told = runs.convert("--help").stdout
    for word in ("Caffe2", "safetensors", "--input", "--output", "inflated"):
        assert word in told
