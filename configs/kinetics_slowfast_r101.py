"""SlowFast-R101 on Kinetics-400: the paper's deeper model.

As `kinetics_slowfast.py`, with ResNet-101 in both pathways. Multigrid takes the same 32,686
iterations against 112,000. Batch, learning rate and schedule stay R50's, as in PySlowFast, whose
configs of both depths agree in them.

    python main.py --config=configs/kinetics_slowfast_r101.py --workdir=DIR
    python main.py --config=configs/kinetics_slowfast_r101.py:baseline --workdir=DIR

With pre-training, `--config.init_from` takes a ResNet-101 trained on ImageNet.
"""

from configs.base import as_variant
from configs.kinetics_slowfast import get_config as get_slowfast


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_slowfast()
    config.model.depth = 101
    return as_variant(config, variant)
