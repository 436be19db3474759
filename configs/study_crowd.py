r"""The paper's comparisons on a task that can tell variants apart: few videos, learnt by heart.

    python main.py --config=configs/study_crowd.py --mode=prepare
    python -m mg_jax.study --config=configs/study_crowd.py --workdir=work/study_crowd --at_once=2

The demo's network on `moving_shapes/crowd1`: eight directions, distractors, 96 videos to train on.
The baseline takes 1,300 iterations, multigrid 366. How the size was chosen: `docs/study.md`.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_demo()
    config.data.name = "moving_shapes/crowd1"
    config.model.num_classes = 8
    config.schedule.videos = 96
    config.schedule.learning_rate = 0.016
    config.schedule.steps = (650, 975, 1137)
    config.schedule.iterations = 1300
    config.schedule.warmup_iterations = 400
    return as_variant(config, variant)
