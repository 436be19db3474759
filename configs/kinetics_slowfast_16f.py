"""SlowFast-R50 on Kinetics-400 with 16 frames: the paper's shorter clips.

As `kinetics_slowfast.py`, with half the frames. Multigrid takes the same 32,686 iterations against
112,000; its coarsest grid has 4 frames. Chosen here: a stride and an alpha that leave the slow
pathway's frames as they are with 32, so that only the fast pathway's frame rate halves.

    python main.py --config=configs/kinetics_slowfast_16f.py --workdir=DIR
    python main.py --config=configs/kinetics_slowfast_16f.py:baseline --workdir=DIR
"""

from configs.base import as_variant
from configs.kinetics_slowfast import get_config as get_slowfast


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_slowfast()
    config.frames = 16
    config.data.stride = 4
    config.model.alpha = 2  # 8 slow frames at stride 8, and 2 on the coarsest grid
    return as_variant(config, variant)
