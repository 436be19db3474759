"""Loads published weights into a model and accounts for every tensor."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from mg_jax.errors import some
from mg_jax.weights import mmaction, recognition
from mg_jax.weights import names as names_lib
from mg_jax.weights.files import WeightsError, read_tensors
from mg_jax.weights.layout import to_tensors, to_variables
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.config import check_config

_HEAD = "head.projection."
# What only their training needed: PyTorch counts the batches that a batch norm has seen, Caffe2
# keeps momenta, the learning rate and the iteration.
_TRAINING_ONLY = re.compile(r".*\.num_batches_tracked|.*_momentum|lr|model_iter")
# Kernels on the slow pathway's channels with the fast one's appended.
_JOINED = re.compile(r"s[2-5]\.pathway0_res0\.(branch1|branch2\.a)\.weight")
# In images there is no motion, and no block that relates frames.
_NOT_IN_IMAGES = re.compile(r"s\d_fuse\..*|s\d\.pathway1_.*|s\d\.pathway0_nonlocal.*")


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of every tensor, by PySlowFast's names; unused ones by the file's.

    Attributes:
      source: where the weights come from.
      loaded: the model's tensors that the file has.
      extended: ImageNet kernels whose further input channels, from the fast pathway, keep their
        initialisation.
      initialised: the model's tensors that keep their initialisation.
      unused: the file's tensors that the model does not have.
      training_only: how many further values of the file only its training needed.
      remark: what no tensor shows and the config has otherwise than the published networks.
    """

    source: str
    loaded: tuple[str, ...]
    extended: tuple[str, ...]
    initialised: tuple[str, ...]
    unused: tuple[str, ...]
    training_only: int = 0
    remark: str = ""

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        for fate, names in (
            (
                "loaded for the slow pathway's channels, newly initialised for the fast one's",
                self.extended,
            ),
            ("newly initialised", self.initialised),
            ("in the file and not used", self.unused),
        ):
            if names:
                lines.append(f"  {len(names)} {fate}: {_listed(names)}")
        if self.training_only:
            lines.append(f"  {self.training_only} training-only values left out")
        if self.remark:
            lines.append(f"  {self.remark}")
        return "\n".join(lines)


def _listed(names: Iterable[str], most: int = 8) -> str:
    """The names; where they are many, their modules with the number of tensors in each."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    modules = collections.Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{module} ({count})" for module, count in modules.items())


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Weights that fit a model, not necessarily all of it.

    Attributes:
      tensors: by PySlowFast's names; those of `account.extended` lack input channels.
      account: of every tensor.
    """

    tensors: dict[str, np.ndarray]
    account: Account

    def variables(self, initialise: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """`params` and `batch_stats`; `initialise` returns fresh ones, for what is missing."""
        if not (self.account.initialised or self.account.extended):
            return to_variables(self.tensors)
        fresh = to_tensors(initialise())
        tensors = fresh | self.tensors
        for name in self.account.extended:
            tensor = self.tensors[name]
            tensors[name] = np.concatenate([tensor, fresh[name][:, tensor.shape[1] :]], 1)
        return to_variables(tensors)


def load_weights(
    path: pathlib.Path, shapes: dict[str, Any], classes: list[str] | None = None, config=None
) -> Loaded:
    """The weights of a file or of a work directory's best checkpoint.

    Args:
      path: a work directory, or a file that `files.read_tensors` reads, with the names of
        PySlowFast, PyTorchVideo, Caffe2, mmaction2 or an ImageNet ResNet of torchvision or timm.
      shapes: of the model's `params` and `batch_stats`, leaves with `shape` and `dtype`.
      classes: that the model is to tell apart; the classifier of a work directory with others is
        left out.
      config: of the model, for the account's remark and the settings that differ.

    Raises:
      UserError: if they cannot be read or are another network's.
    """
    if path.is_dir():
        best = read_best(path)
        tensors = to_tensors(best.variables)
        if classes not in (None, best.classes):
            tensors = {n: tensor for n, tensor in tensors.items() if not n.startswith(_HEAD)}
        try:
            return fit(f"{path}, {best}", tensors, shapes)
        except WeightsError:
            if config is not None:  # it names the settings that differ
                other = "choose other weights by --config.init_from"
                check_config(path, config, ("model.",), ("model.num_classes",), other)
            raise
    content = _without_prefix(path, read_tensors(path))
    tensors = {n: tensor for n, tensor in content.items() if not _TRAINING_ONLY.fullmatch(n)}
    source = names_lib.scheme(tensors, _places(shapes))
    if source is None:
        raise WeightsError(
            f"the names in {path}, such as {some(sorted(tensors), 6)}, are of no known kind; "
            "known are PySlowFast's, PyTorchVideo's, Caffe2's, mmaction2's and those of "
            "torchvision's and timm's ResNets"
        )
    translated = {name: names_lib.to_pyslowfast(name, source) for name in tensors}
    found = {ours: tensors[name] for name, ours in translated.items() if ours is not None}
    if source == "mmaction":
        found = mmaction.completed(found)
    loaded = fit(str(path), found, shapes, scheme=source)
    unused = [name for name, ours in translated.items() if ours is None]
    account = dataclasses.replace(
        loaded.account,
        unused=(*loaded.account.unused, *sorted(unused)),
        training_only=len(content) - len(tensors),
        remark="" if config is None else _remark(config, found, source),
    )
    return Loaded(loaded.tensors, account)


def _remark(config, found: dict[str, np.ndarray], scheme: str) -> str:
    if scheme == "imagenet":
        return ""
    return recognition.remark(config, recognition.visible_settings(found), scheme)


def _without_prefix(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without the `module.` that PyTorch's data parallelism puts before them.

    And without the `model.` that PySlowFast puts before PyTorchVideo's.
    """
    prefix = re.compile(r"(module\.)?(model\.(?=blocks\.))?")
    plain = {prefix.sub("", name, count=1): tensor for name, tensor in tensors.items()}
    if len(plain) != len(tensors):
        raise WeightsError(f"{path} holds tensors both with and without the prefix 'module.'")
    return plain


def fit(
    source: str, found: dict[str, np.ndarray], shapes: dict[str, Any], *, scheme: str = "pyslowfast"
) -> Loaded:
    """The tensors that a model has, and an account of all.

    Args:
      source: where they come from, in words.
      found: the tensors by PySlowFast's names.
      shapes: of the model's variables.
      scheme: of the names that the tensors had (`names.scheme`). With imagenet, those of a ResNet
        for images, kernels are inflated, and what images do not have is to be initialised.

    Raises:
      WeightsError: if they are another network's.
    """
    wanted, images = _places(shapes), scheme == "imagenet"
    _check_network(source, found, wanted, scheme)
    tensors, extended = {}, []
    for name, place in wanted.items():
        tensor = found.get(name)
        if tensor is None or _other_classes(name, tensor, place):
            continue
        if images and tensor.ndim == 4:
            tensor = inflate(tensor, place.shape[2])
        expected = place.shape
        if images and _JOINED.fullmatch(name) and "s1_fuse.conv_f2s.weight" in wanted:
            extended.append(name)
            fused = wanted[f"s{int(name[1]) - 1}_fuse.conv_f2s.weight"].shape[0]
            expected = (expected[0], expected[1] - fused, *expected[2:])
        _check_tensor(source, name, tensor, expected)
        tensors[name] = tensor.astype(place.dtype)
    account = Account(
        source,
        loaded=tuple(name for name in tensors if name not in extended),
        extended=tuple(extended),
        initialised=tuple(name for name in wanted if name not in tensors),
        unused=tuple(name for name in found if name not in wanted),
    )
    return Loaded(tensors, account)


def _places(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """The model's tensors by name: zeros that take no memory."""
    return to_tensors(jax.tree.map(lambda x: np.broadcast_to(x.dtype.type(), x.shape), shapes))


def _check_tensor(source: str, name: str, tensor: np.ndarray, expected: tuple[int, ...]) -> None:
    if tensor.shape != expected:
        raise WeightsError(
            f"{name} has shape {tensor.shape} in {source} and {expected} in the config's model; "
            "set model.name, model.width and model.beta as the weights were trained, or it is "
            "another architecture than mg_jax has"
        )
    if not np.isfinite(tensor).all():
        raise WeightsError(f"{name} of {source} holds numbers that are not finite")


def inflate(kernel_OIHW: np.ndarray, frames: int) -> np.ndarray:
    """`O I T H W`: the kernel of an image repeated along time and divided by its length.

    On a video that stands still it gives what the image gives (Carreira and Zisserman, 2017).
    """
    return np.repeat(kernel_OIHW[:, :, None], frames, 2) / np.float32(frames)


def _other_classes(name: str, tensor: np.ndarray, place: np.ndarray) -> bool:
    """Whether a tensor is the classifier of as many features for another number of classes."""
    return (
        name.startswith(_HEAD)
        and tensor.shape[1:] == place.shape[1:]
        and tensor.shape[0] != place.shape[0]
    )


def _check_network(
    source: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], scheme: str
) -> None:
    """Refuses another model, depth or set of non-local blocks before shapes are compared.

    And other kernel sizes over time.
    """
    theirs_visible, ours_visible = map(recognition.visible_settings, (found, wanted))
    if scheme == "imagenet":
        theirs_visible = {}
        wanted = {name: None for name in wanted if not _NOT_IN_IMAGES.fullmatch(name)}
    advice = recognition.advice(recognition.published_as(theirs_visible, scheme))
    theirs, ours = outline(found), outline(wanted)
    if theirs != ours:
        raise WeightsError(
            f"{source} holds {theirs}; the config's model has {ours}. Set model.name, "
            f"model.depth and model.non_local.positions accordingly.{advice}"
        )
    if unlike := recognition.describe_differences(theirs_visible, ours_visible):
        raise WeightsError(f"{source} does not fit the config's model: {unlike}.{advice}")
    missing = [name for name in wanted if name not in found and not name.startswith(_HEAD)]
    if missing:
        raise WeightsError(f"{source} lacks {len(missing)} tensors: {some(missing, 6)}")


def outline(names: Iterable[str]) -> str:
    """A network in words: pathways, blocks of each stage and non-local blocks."""
    blocks: dict[int, set[int]] = {}
    pathways, non_local = set(), []
    for name in names:
        if match := re.match(r"s(\d)\.pathway(\d)_(res|nonlocal)(\d+)\.", name):
            stage, pathway, kind, block = match.groups()
            pathways.add(pathway)
            if kind == "res":
                blocks.setdefault(int(stage), set()).add(int(block))
            else:
                non_local.append(f"res{stage}_{block}")
    depth = "-".join(str(len(blocks[stage])) for stage in sorted(blocks)) or "no"
    after = f"after {', '.join(sorted(set(non_local)))}" if non_local else "none"
    return f"{len(pathways)} pathway(s) of {depth} blocks, non-local blocks: {after}"
