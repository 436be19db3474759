r"""The comparisons of the paper where few videos are the limit, as in its Tables 5 and 6.

    make demo
    python main.py --config=configs/study_crowd.py --mode=prepare
    python -m mg_jax.study --config=configs/study_crowd.py --workdir=work/study_crowd --at_once=2

Starts from the network that the demo has trained, on `moving_shapes/crowd1`: eight directions,
distractors, 48 videos to train on. The baseline takes 800 iterations, multigrid 225. How the size
was chosen: `docs/study.md`.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_demo()
    config.init_from = "work/demo_seed0_baseline"
    config.data.name = "moving_shapes/crowd1"
    config.model.num_classes = 8
    config.schedule.videos = 48
    config.schedule.steps = (400, 600, 700)
    config.schedule.iterations = 800
    config.schedule.warmup_iterations = 250
    config.eval.times = 1
    return as_variant(config, variant)
