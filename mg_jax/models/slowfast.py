"""SlowFast networks (Feichtenhofer et al., ICCV 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mg_jax.architectures import BLOCKS
from mg_jax.models.parts import ModuleDef, Parts
from mg_jax.models.resnet3d import Head, Pathway, ResNet3D, Stage, Stems, resnet_fields

# Lateral connections: kernel size in time, and channels relative to the fast pathway's.
FUSION_FRAMES = 7
FUSION_RATIO = 2


def create(config, parts: Parts) -> "SlowFast":
    """The network by the `model` section of a config."""
    return SlowFast(alpha=config.alpha, beta=config.beta, **resnet_fields(config, parts))


class FuseFastToSlow(nn.Module):
    """Appends the fast pathway to the slow one's channels, by a convolution strided in time."""

    alpha: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, inputs: list[jax.Array]) -> list[jax.Array]:
        slow_BTHWC, fast_BTHWC = inputs
        features = FUSION_RATIO * fast_BTHWC.shape[-1]
        kernel, strides = (FUSION_FRAMES, 1, 1), (self.alpha, 1, 1)
        fused = self.conv(features, kernel, strides, name="conv_f2s")(fast_BTHWC)
        fused = nn.relu(self.norm(name="bn")(fused))
        return [jnp.concatenate([slow_BTHWC, fused], -1), fast_BTHWC]


class SlowFast(ResNet3D):
    """A slow pathway on every alpha-th frame and a thin fast one on all of them.

    Attributes:
      alpha: frames of the fast pathway per frame of the slow one.
      beta: channels of the fast pathway relative to the slow one's.
    """

    alpha: int
    beta: float

    @nn.compact
    def __call__(self, clips_BTHWC: jax.Array) -> jax.Array:
        """Logits `B K` in float32 of normalised clips; alpha divides their frames."""
        pathways = (
            Pathway(self.width, stem_frames=1, stage_frames=(1, 1, 3, 3), non_local=self.positions),
            Pathway(round(self.width * self.beta), stem_frames=5, stage_frames=(3, 3, 3, 3)),
        )
        common = {"conv": self.conv, "norm": self.norm}
        parts = {**common, "non_local": self.non_local, "block": self.block}
        slow = slow_frames(clips_BTHWC.shape[1], self.alpha)
        x = Stems(pathways, **common, name="s1")([clips_BTHWC[:, slow], clips_BTHWC])
        for i, blocks in enumerate(BLOCKS[self.depth]):
            x = FuseFastToSlow(self.alpha, **common, name=f"s{i + 1}_fuse")(x)
            x = Stage(pathways, i, blocks, **parts, name=f"s{i + 2}")(x)
        return Head(self.num_classes, self.dropout, self.train, self.first_clip, name="head")(x)


def slow_frames(frames: int, alpha: int) -> np.ndarray:
    """Frames of the slow pathway: T / alpha of them, spread from the first to the last."""
    return np.linspace(0, frames - 1, frames // alpha).astype(np.int32)
