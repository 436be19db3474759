"""SlowFast networks (Feichtenhofer et al., ICCV 2019)."""

import flax.linen as nn
import jax
import numpy as np

from mg_jax.architectures import BLOCKS
from mg_jax.models.parts import ModuleDef, Parts
from mg_jax.models.resnet3d import Head, Pathway, ResNet3D, Stage, Stems, resnet_fields

# Channels of the lateral connections relative to the fast pathway's.
FUSION_RATIO = 2
FAST_STEM_FRAMES = 5


def create(config, parts: Parts) -> "SlowFast":
    """The network by the `model` section of a config."""
    return SlowFast(
        alpha=config.alpha,
        fast=Pathway(
            round(config.width * config.beta),
            FAST_STEM_FRAMES,
            tuple(map(tuple, config.fast_stage_frames)),
            pad_stem_pool=config.pad_stem_pool,
        ),
        fusion_frames=config.fusion_frames,
        fusion_norm=config.fusion_norm,
        slow_frames=config.slow_frames,
        **resnet_fields(config, parts),
    )


class FuseFastToSlow(nn.Module):
    """Channels for the slow pathway from the fast one, by a convolution strided in time.

    Attributes:
      alpha: its stride.
      frames: its kernel size.
      with_norm: BN and ReLU follow it.
      conv: convolution.
      norm: normalisation.
    """

    alpha: int
    frames: int
    with_norm: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> list[tuple[jax.Array, ...]]:
        """The slow pathway's input with these channels, and the fast one's, for a Stage."""
        slow_BTHWC, fast_BTHWC = inputs
        features = FUSION_RATIO * fast_BTHWC.shape[-1]
        kernel, strides = (self.frames, 1, 1), (self.alpha, 1, 1)
        fused = self.conv(features, kernel, strides, name="conv_f2s")(fast_BTHWC)
        if self.with_norm:
            fused = nn.relu(self.norm(name="bn")(fused))
        return [(slow_BTHWC, fused), (fast_BTHWC,)]


class SlowFast(ResNet3D):
    """A slow pathway on every alpha-th frame and a thin fast one on all of them.

    Attributes:
      alpha: frames of the fast pathway per frame of the slow one.
      fast: the fast pathway.
      fusion_frames: kernel size of the lateral connections over time.
      fusion_norm: they have BN and ReLU.
      slow_frames: which the slow pathway gets, spread or every.
    """

    alpha: int
    fast: Pathway
    fusion_frames: int
    fusion_norm: bool
    slow_frames: str

    @nn.compact
    def __call__(self, clips_BTHWC: jax.Array) -> jax.Array:
        """Logits `B K` in float32 of normalised clips; alpha divides their frames."""
        pathways = (self.pathway, self.fast)
        common = {"conv": self.conv, "norm": self.norm}
        parts = {
            **common,
            "non_local": self.non_local,
            "block": self.block,
            "platform": self.platform,
        }
        fusion = (self.alpha, self.fusion_frames, self.fusion_norm)
        slow = slow_frames(clips_BTHWC.shape[1], self.alpha, self.slow_frames)
        stems = Stems(pathways, **common, platform=self.platform, name="s1")
        x = stems([clips_BTHWC[:, slow], clips_BTHWC])
        for i, blocks in enumerate(BLOCKS[self.depth]):
            x = FuseFastToSlow(*fusion, **common, name=f"s{i + 1}_fuse")(x)
            x = Stage(pathways, i, blocks, **parts, name=f"s{i + 2}")(x)
        return Head(self.num_classes, self.dropout, self.train, self.first_clip, name="head")(x)


def slow_frames(frames: int, alpha: int, how: str = "spread") -> np.ndarray:
    """Frames of the slow pathway: T / alpha of them.

    Args:
      frames: T.
      alpha: see SlowFast.
      how: spread from the first to the last, as PySlowFast and PyTorchVideo choose them; or every
        alpha-th from the first on, as mmaction2 does.
    """
    if how == "every":
        return np.arange(0, frames, alpha, np.int32)
    return np.linspace(0, frames - 1, frames // alpha).astype(np.int32)
