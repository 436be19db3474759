r"""The study of `configs/study.py` with eight directions, distractors and fewer training videos.

    python main.py --config=configs/study_crowd.py --mode=prepare
    python -m mg_jax.study --config=configs/study_crowd.py --set=overview --at_once=2 \
        --workdir=work/study_crowd

`moving_shapes/crowd1` has 512 training videos. The baseline takes 2,600 iterations, multigrid 733.
"""

from configs.base import as_variant
from configs.study import get_config as get_study


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_study()
    config.data.name = "moving_shapes/crowd1"
    config.model.num_classes = 8
    config.schedule.videos = 512
    return as_variant(config, variant)
