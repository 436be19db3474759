"""3-D ResNets: the stem, bottleneck stages and head that I3D and SlowFast share.

Modules are named as in the published PyTorch checkpoints (`s2.pathway0_res0.branch2.a` and so on).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from mg_jax.models.conv import Kernel, reaches_all
from mg_jax.models.drop_path import drop_path_at
from mg_jax.models.non_local import NonLocal
from mg_jax.models.parts import ModuleDef, Parts, clip_keys
from mg_jax.models.pooling import max_pool_3x3, max_pool_3x3_unpadded
from mg_jax.models.precision import at_least_float32
from mg_jax.models.stem_conv import frames_apart


@dataclasses.dataclass(frozen=True)
class Pathway:
    """One pathway of a network.

    Attributes:
      width: channels of the stem and inner channels of res2; doubles from stage to stage.
      stem_frames: temporal kernel size of the stem.
      stage_frames: temporal kernel sizes of the first convolutions of the blocks of res2 ... res5,
        in turn.
      non_local: blocks of res2 ... res5, counted from 0, that a non-local block follows.
      stem_stride: of the stem over time.
      pad_stem_pool: pad pictures for the stem's max-pooling.
    """

    width: int
    stem_frames: int
    stage_frames: tuple[tuple[int, ...], ...]
    non_local: tuple[tuple[int, ...], ...] = ((), (), (), ())
    stem_stride: int = 1
    pad_stem_pool: bool = True


class Stem(nn.Module):
    """t x 7 x 7 convolution with spatial stride 2, BN, ReLU, 3 x 3 max-pooling with stride 2."""

    pathway: Pathway
    conv: ModuleDef
    norm: ModuleDef
    platform: str

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        kernel, strides = (self.pathway.stem_frames, 7, 7), (self.pathway.stem_stride, 2, 2)
        width = self.pathway.width
        # Frames that come out at once stay so until there are a quarter of the pixels, but on CPUs,
        # where that is slower. To batch norm it is all one in which order positions come.
        cut = self.platform == "cpu"
        x = self.conv(width, kernel, strides, cut_apart=cut, name="conv")(x_BTHWC)
        B, T, H = x.shape[:3]
        x = self.norm(name="bn")(x.reshape(B, T, H, -1, width)).reshape(x.shape)
        max_pool = max_pool_3x3 if self.pathway.pad_stem_pool else max_pool_3x3_unpadded
        # The same as pooling after ReLU, which then has a quarter of the pixels.
        return nn.relu(frames_apart(max_pool(x, self.platform), x.shape[-1] // width))


def frames_last(x_BTHWC: jax.Array) -> jax.Array:
    """All frames of a position side by side, positions along one axis: `B 1 1 HWT C`."""
    B, *_, C = x_BTHWC.shape
    return x_BTHWC.transpose(0, 2, 3, 1, 4).reshape(B, 1, 1, -1, C)


def frames_first(x_B11NC: jax.Array, extent: tuple[int, int, int]) -> jax.Array:
    """Undoes `frames_last` of clips of an extent `T H W`."""
    T, H, W = extent
    # XLA would put channels first, for the sums over positions in batch norm's gradient.
    x_B11NC = with_layout_constraint(x_B11NC, Layout((0, 1, 2, 3, 4)))
    return x_B11NC.reshape(x_B11NC.shape[0], H, W, T, -1).transpose(0, 3, 1, 2, 4)


class Bottleneck(nn.Module):
    """t x 1 x 1, 1 x 3 x 3, 1 x 1 x 1; the last BN starts at zero (Goyal et al., 2017).

    Attributes are those of ResBlock; with an extent x is `B 1 1 HWT C`, but for b.
    """

    inner: int
    frames: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    extent: tuple[int, int, int] | None = None

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        a = self.conv(self.inner, (self.frames, 1, 1), extent=self.extent, name="a")
        x = nn.relu(self.norm(name="a_bn")(a(x_BTHWC)))
        x = frames_first(x, self.extent) if self.extent else x
        x = self.conv(self.inner, (1, 3, 3), (1, self.stride, self.stride), name="b")(x)
        x = self.norm(name="b_bn")(x)
        # Where c's input lies in another order, the gradient needs no mask in b's beside it.
        x = relu(frames_last(x)) if self.extent else nn.relu(x)
        kernel_IO = Kernel(4 * self.inner, name="c")(x.shape[-1])
        return self.norm(name="c_bn", scale_init=nn.initializers.zeros)(x, kernel_IO)


class ResBlock(nn.Module):
    """relu(shortcut(x) + bottleneck(x)), the shortcut projected where the shape changes.

    Attributes:
      inner: inner channels.
      frames: temporal kernel size.
      stride: in space.
      conv: convolution.
      norm: normalisation.
      place: index of the stage, 0 for res2, and of the block in it.
      drop_path: called with the place, makes what leaves out the bottleneck for some clips.
      extent: `T H W` of clips that come as `frames_last` has them, and go so; None for `B T H W C`.
    """

    inner: int
    frames: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    place: tuple[int, int] = (0, 0)
    drop_path: ModuleDef | None = None
    extent: tuple[int, int, int] | None = None

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        settings = (self.inner, self.frames, self.stride, self.conv, self.norm)
        branch = Bottleneck(*settings, self.extent, name="branch2")
        shortcut = x_BTHWC
        if self.stride != 1 or x_BTHWC.shape[-1] != 4 * self.inner:
            strides = (1, self.stride, self.stride)
            shortcut = self.conv(
                4 * self.inner, (1, 1, 1), strides, extent=self.extent, name="branch1"
            )(x_BTHWC)
            shortcut = self.norm(name="branch1_bn")(shortcut)
        y_BTHWC = branch(x_BTHWC)
        if self.drop_path is not None:
            y_BTHWC = self.drop_path(self.place)(y_BTHWC)
        return relu(shortcut + y_BTHWC)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose gradient needs nothing but the result, which is kept anyway."""
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    # What reads it is not to compute it again from its terms, which then would be kept as well.
    y = lax.optimization_barrier(relu(x))
    return y, y


def _relu_backward(y: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, g, jnp.zeros_like(g)),)


relu.defvjp(_relu_forward, _relu_backward)


class Stems(nn.Module):
    """s1: a stem for each pathway."""

    pathways: tuple[Pathway, ...]
    conv: ModuleDef
    norm: ModuleDef
    platform: str

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> list[jax.Array]:
        return [
            Stem(p, self.conv, self.norm, self.platform, name=f"pathway{i}_stem")(x_BTHWC)
            for i, (p, x_BTHWC) in enumerate(zip(self.pathways, inputs, strict=True))
        ]


class Stage(nn.Module):
    """s2 ... s5: the residual blocks of one stage for each pathway.

    Attributes:
      pathways: of the network.
      index: 0 for res2 ... 3 for res5.
      blocks: blocks of this stage.
      conv: convolution.
      norm: normalisation.
      non_local: makes a non-local block.
      block: residual block.
      platform: that it is compiled for: cpu, gpu or tpu.
    """

    pathways: tuple[Pathway, ...]
    index: int
    blocks: int
    conv: ModuleDef
    norm: ModuleDef
    non_local: ModuleDef
    block: ModuleDef
    platform: str

    @nn.compact
    def __call__(self, inputs: Sequence[Sequence[jax.Array]]) -> list[jax.Array]:
        """Of each pathway, `B T H W C`, given the arrays whose channels it takes together."""
        outputs = []
        for i, (pathway, parts) in enumerate(zip(self.pathways, inputs, strict=True)):
            extent, frames = None, pathway.stage_frames[self.index]
            if self._wants_frames_last(pathway, parts[0].shape[1]):
                extent = parts[0].shape[1:4]
                # One by one, so that gradients of parts are parts of the gradient in memory.
                parts = [frames_last(part) for part in parts]
            x = jnp.concatenate(parts, -1)
            for j in range(self.blocks):
                stride = 2 if j == 0 and self.index > 0 else 1
                x = self.block(
                    inner=pathway.width * 2**self.index,
                    frames=frames[j % len(frames)],
                    stride=stride,
                    conv=self.conv,
                    norm=self.norm,
                    place=(self.index, j),
                    extent=extent,
                    name=f"pathway{i}_res{j}",
                )(x)
                if extent:
                    extent = (extent[0], -(-extent[1] // stride), -(-extent[2] // stride))
                if j in pathway.non_local[self.index]:
                    x = self.non_local(
                        conv=self.conv, norm=self.norm, name=f"pathway{i}_nonlocal{j}"
                    )(x)
            outputs.append(frames_first(x, extent) if extent else x)
        return outputs

    def _wants_frames_last(self, pathway: Pathway, frames: int) -> bool:
        """Whether blocks take clips as `frames_last` has them.

        So `convolve_all_frames` needs no copies between blocks: arrays of 4 C channels lie like
        this, and within a block those of C are put in order where they are written anyway.
        """
        taps = [n for n in pathway.stage_frames[self.index] if n > 1]
        if self.platform != "gpu" or not taps or pathway.non_local[self.index]:
            return False
        return all(reaches_all(frames, n) for n in taps)


class Head(nn.Module):
    """Global average pooling, dropout, linear classifier.

    Pooling over all positions is what lets one set of variables serve every grid.

    Attributes:
      num_classes: K.
      dropout: share of features that is dropped.
      train: whether to drop.
      first_clip: see `Parts`.
    """

    num_classes: int
    dropout: float
    train: bool
    first_clip: Callable[[int], jax.Array | int]

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> jax.Array:
        pooled = [jnp.mean(at_least_float32(x), (1, 2, 3)) for x in inputs]
        features_BC = jnp.concatenate(pooled, -1)
        if self.train and self.dropout > 0:
            features_BC = self._drop(features_BC)
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, name="projection")(features_BC)

    def _drop(self, features_BC: jax.Array) -> jax.Array:
        B, C = features_BC.shape
        keys_B = clip_keys(self.make_rng("dropout"), self.first_clip, B)
        keep = 1 - self.dropout
        mask_BC = jax.vmap(partial(jax.random.bernoulli, p=keep, shape=(C,)))(keys_B)
        return jnp.where(mask_BC, features_BC / keep, 0.0)


class ResNet3D(nn.Module):
    """The fields of a network of such stages.

    Attributes:
      num_classes: K.
      depth: of every pathway's ResNet, a key of architectures.BLOCKS.
      pathway: the only one, or the slow one.
      dropout: before the classifier.
      conv: convolution, called with (features, kernel, strides).
      norm: normalisation.
      non_local: non-local block, called with conv and norm.
      block: residual block, called with the attributes of ResBlock but drop_path.
      platform: that it is compiled for: cpu, gpu or tpu.
      train: training or inference.
      first_clip: see `Parts`.
    """

    num_classes: int
    depth: int
    pathway: Pathway
    dropout: float
    conv: ModuleDef
    norm: ModuleDef
    non_local: ModuleDef
    block: ModuleDef
    platform: str
    train: bool
    first_clip: Callable[[int], jax.Array | int]


def resnet_fields(config, parts: Parts) -> dict[str, Any]:
    """The fields of a ResNet3D by the `model` section of a config."""
    block = nn.remat(ResBlock) if parts.remat else ResBlock
    if parts.train and config.drop_path:
        drop_path = partial(drop_path_at, config.drop_path, config.depth, parts.first_clip)
        block = partial(block, drop_path=drop_path)
    return {
        "num_classes": config.num_classes,
        "depth": config.depth,
        "pathway": Pathway(
            config.width,
            config.stem_frames,
            tuple(map(tuple, config.stage_frames)),
            tuple(map(tuple, config.non_local.positions)),
            config.stem_stride,
            config.pad_stem_pool,
        ),
        "dropout": config.dropout,
        "conv": parts.conv,
        "norm": parts.norm,
        "non_local": partial(
            NonLocal,
            instantiation=config.non_local.instantiation,
            pool=tuple(config.non_local.pool),
            pool_first=config.non_local.pool_first,
        ),
        "block": block,
        "platform": parts.platform,
        "train": parts.train,
        "first_clip": parts.first_clip,
    }
