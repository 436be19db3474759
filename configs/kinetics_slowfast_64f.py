"""SlowFast-R50 on Kinetics-400 with 64 frames: the paper's longer clips.

As `kinetics_slowfast.py`, with twice the frames at the same stride, hence clips of twice the
duration and 16 x 8 in the slow pathway, as PySlowFast has 64 frames. Multigrid takes the same
32,686 iterations against 112,000. Batch, learning rate and schedule stay those of 32 frames.

    python main.py --config=configs/kinetics_slowfast_64f.py --workdir=DIR
    python main.py --config=configs/kinetics_slowfast_64f.py:baseline --workdir=DIR

A model that this recipe trained can start `ssv2_slowfast.py` and `charades_slowfast.py`, which have
64 frames as well; so can one of 32 frames, since no weight depends on the number of frames.
"""

from configs.base import as_variant
from configs.kinetics_slowfast import get_config as get_slowfast


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_slowfast()
    config.frames = 64
    return as_variant(config, variant)
