"""Tensors of weight files: safetensors, PyTorch checkpoints, Caffe2 pickles."""

import pathlib
import pickle
import pickletools
import tarfile
import zipfile
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from mg_jax.errors import UserError, first_line, text_of
from mg_jax.machine.atomic_file import write_bytes

_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}

SUFFIXES = (".safetensors", ".pyth", ".pth", ".pt", ".pkl")

_COPY_AGAIN = "; copy or download it again"


class WeightsError(UserError):
    """A weight file that cannot be used, with the reason."""


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of a file under its own names, floats as float32.

    Args:
      path: by its suffix a safetensors file, a PyTorch checkpoint (a state dict, or one under
        `model_state`, `state_dict` or `model`; needs PyTorch), or a pickle of the Caffe2 model zoo.

    Raises:
      WeightsError: if there is no such file, or it is damaged or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} is of no known kind; there are {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix == ".pkl":
        tensors = _read_caffe2(path)
    else:
        tensors = _read_torch(path)
    return {name: _as_float32(tensor, f"{name} of {path}") for name, tensor in tensors.items()}


def write_tensors(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file that is there whole or not at all."""
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_bytes(path, safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def _as_float32(tensor: np.ndarray, name: str) -> np.ndarray:
    """Floats of any precision as float32; integers, which are counters, stay."""
    if tensor.dtype.kind in "iub":
        return tensor
    if tensor.dtype.kind != "f" and tensor.dtype != ml_dtypes.bfloat16:
        raise WeightsError(f"{name} holds {tensor.dtype}, not numbers")
    return tensor.astype(np.float32)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file: {error}{_COPY_AGAIN}"
        ) from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise WeightsError(
                f"{name} of {path} has dtype {entry['dtype']}; weights can be of "
                f"{', '.join(_SAFETENSORS_DTYPES)}"
            )
        dtype = _SAFETENSORS_DTYPES[entry["dtype"]]
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return tensors


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"reading {path} needs PyTorch, which is not installed: pip install torch"
        ) from error
    try:
        _check_checksums(path)
        # weights_only: a pickle may otherwise run anything.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises whatever the damage causes.
        unlike = _unlike_torch(path)
        if isinstance(error, pickle.UnpicklingError) and not unlike:
            raise WeightsError(
                f"{path} is damaged or no checkpoint of tensors and plain values alone, and other "
                "objects could run code; save just its state dict with torch.save"
            ) from error
        reason = unlike or first_line(error)
        raise WeightsError(
            f"{path} is damaged or no PyTorch checkpoint: {reason}{_COPY_AGAIN}"
        ) from error
    for key in ("model_state", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = content if isinstance(content, dict) else {}
    tensors = {k: v for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no state dict of tensors")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in tensors.items()
    }


def _check_checksums(path: pathlib.Path) -> None:
    """Raises BadZipFile where a tensor's bytes do not fit its checksum, which PyTorch ignores."""
    if not zipfile.is_zipfile(path):  # as older versions wrote
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} does not fit")


def _unlike_torch(path: pathlib.Path) -> str:
    """How a file that PyTorch refused differs from all that it writes; empty if it does not."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        return "it is empty"
    if start.startswith(b"PK"):
        return "" if zipfile.is_zipfile(path) else "its end is missing"
    # A pickle, or an archive of one.
    return "" if start[:1] in b"\x80(" or tarfile.is_tarfile(path) else f"it begins with {start!r}"


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; anything else in a pickle could run code."""

    _ALLOWED = frozenset(
        [
            ("_codecs", "encode"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
        ]
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        return super().find_class(module, name)


def _check_memo(file: BinaryIO, size: int) -> None:
    """Refuses indices of the pickle's memo beyond its size: the memo grows to the largest one."""
    for opcode, index, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and index > size:
            raise pickle.UnpicklingError(f"it uses memo index {index} in a file of {size} bytes")
    file.seek(0)


def _read_caffe2(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            _check_memo(file, path.stat().st_size)
            # The zoo's pickles were written by Python 2.
            content = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # Unpickling raises whatever the damage causes.
        raise WeightsError(
            f"{path} is damaged or no Caffe2 pickle: {text_of(error)}{_COPY_AGAIN}"
        ) from error
    blobs = content.get("blobs") if isinstance(content, dict) else None
    if not isinstance(blobs, dict):
        raise WeightsError(f"{path} is no Caffe2 model: it has no 'blobs'")
    return {name: blob for name, blob in blobs.items() if isinstance(blob, np.ndarray)}
