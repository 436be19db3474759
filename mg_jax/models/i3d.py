"""The paper's I3D and, with non-local blocks, its I3D-NL."""

import flax.linen as nn
import jax

from mg_jax.architectures import BLOCKS
from mg_jax.models.parts import Parts
from mg_jax.models.resnet3d import Head, Pathway, ResNet3D, Stage, Stems, resnet_fields


def create(config, parts: Parts) -> "I3D":
    """The network by the `model` section of a config."""
    return I3D(**resnet_fields(config, parts))


class I3D(ResNet3D):
    """A ResNet with temporal kernels of 3 in every block of res4 and res5."""

    @nn.compact
    def __call__(self, clips_BTHWC: jax.Array) -> jax.Array:
        """Logits `B K` in float32 of normalised clips."""
        pathways = (
            Pathway(self.width, stem_frames=1, stage_frames=(1, 1, 3, 3), non_local=self.positions),
        )
        common = {"conv": self.conv, "norm": self.norm}
        parts = {**common, "non_local": self.non_local, "block": self.block}
        x = Stems(pathways, **common, name="s1")([clips_BTHWC])
        for i, blocks in enumerate(BLOCKS[self.depth]):
            x = Stage(pathways, i, blocks, **parts, name=f"s{i + 2}")(x)
        return Head(self.num_classes, self.dropout, self.train, self.first_clip, name="head")(x)
