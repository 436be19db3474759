r"""Ablation of multigrid's parts on moving_shapes, on two CPU cores.

    python main.py --config=configs/study.py --mode=prepare
    python -m mg_jax.study --config=configs/study.py --workdir=work/study --at_once=2 --set=overview

trains the paper's comparisons (`mg_jax/study/cells.py`) with three seeds each: the
baseline for 2,600 iterations, multigrid for 733. The 33 runs of `docs/study_slowfast.md`, which has
their `--cells`, take about an hour.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """SlowFast, shorter than the demo and evaluated more often; `variant` as there."""
    config = get_demo()
    config.model.name = "slowfast"
    config.model.depth = 14
    config.model.stem_frames = 1
    config.model.alpha = 2
    config.model.beta = 1 / 2
    config.model.stage_frames = ((1,), (1,), (3,), (3,))
    config.model.non_local.positions = ((), (), (), ())
    # The lengths and views that the runs in docs/ had.
    config.schedule.steps = (1300, 1950, 2275)
    config.schedule.iterations = 2600
    config.schedule.warmup_iterations = 800
    config.schedule.learning_rate = 0.015
    config.eval.clips = 4
    config.eval.times = 5
    config.run.log_every = 50
    return as_variant(config, variant)
