"""I3D-R50 with non-local blocks on Kinetics-400 (paper, Table 3).

As `kinetics_i3d.py`, with five dot-product non-local blocks: after every other block of res3 and
res4, keys and values max-pooled by 2 in space. Multigrid takes 30,638 iterations against 100,000.

    python main.py --config=configs/kinetics_i3d_nl.py --config.init_from=resnet50.pth --workdir=DIR
"""

from configs.base import as_variant
from configs.kinetics_i3d import get_config as get_i3d


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_i3d()
    config.model.non_local.positions = ((), (1, 3), (1, 3, 5), ())
    return as_variant(config, variant)
