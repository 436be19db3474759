"""Networks of one pathway: I3D and, with non-local blocks, I3D-NL; Slow and C2D."""

import flax.linen as nn
import jax

from mg_jax.architectures import BLOCKS
from mg_jax.models.parts import Parts
from mg_jax.models.pooling import max_pool
from mg_jax.models.resnet3d import Head, ResNet3D, Stage, Stems, resnet_fields


def create(config, parts: Parts) -> "I3D":
    """The network by the `model` section of a config."""
    return I3D(pool_frames=config.pool_frames, **resnet_fields(config, parts))


class I3D(ResNet3D):
    """A ResNet of one pathway; the paper's has kernels over 3 frames in res4 and res5.

    Attributes:
      pool_frames: frames that are max-pooled into one after res2.
    """

    pool_frames: int

    @nn.compact
    def __call__(self, clips_BTHWC: jax.Array) -> jax.Array:
        """Logits `B K` in float32 of normalised clips."""
        pathways = (self.pathway,)
        common = {"conv": self.conv, "norm": self.norm}
        parts = {
            **common,
            "non_local": self.non_local,
            "block": self.block,
            "platform": self.platform,
        }
        stems = Stems(pathways, **common, platform=self.platform, name="s1")
        x = stems([clips_BTHWC])
        for i, blocks in enumerate(BLOCKS[self.depth]):
            x = Stage(pathways, i, blocks, **parts, name=f"s{i + 2}")([x])
            if i == 0 and self.pool_frames > 1:
                x = [max_pool(x[0], (self.pool_frames, 1, 1))]
        return Head(self.num_classes, self.dropout, self.train, self.first_clip, name="head")(x)
