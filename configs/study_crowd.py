r"""The paper's comparisons on a task where few videos are the limit, as they are on Kinetics.

    python main.py --config=configs/study_crowd.py --mode=prepare
    python -m mg_jax.study --config=configs/study_crowd.py --workdir=work/study_crowd --at_once=2

The demo's network on `moving_shapes/crowd1`: eight directions, distractors, 160 videos to train on.
The baseline takes 2,600 iterations, multigrid 733. How the task was chosen: `docs/study.md`.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_demo()
    config.data.name = "moving_shapes/crowd1"
    config.model.num_classes = 8
    # Clips of the coarsest grid have 2 frames: further apart than 4 they do not show the motion.
    config.data.stride = 1
    # The lengths and views that the runs in docs/ had.
    config.schedule.steps = (1300, 1950, 2275)
    config.schedule.iterations = 2600
    config.schedule.warmup_iterations = 800
    config.schedule.videos = 160
    config.eval.clips = 4
    config.eval.times = 1
    return as_variant(config, variant)
