r"""What multigrid's parts are worth, on moving_shapes, in about an hour on two CPU cores.

    python main.py --config=configs/study.py --mode=prepare
    python -m mg_jax.study --config=configs/study.py --workdir=work/study --at_once=2

trains the paper's comparisons (`mg_jax/study/cells.py`) with three seeds each: the
baseline for 2,000 iterations, multigrid for 564. Length and task were chosen on the baseline alone:
see `docs/study.md`.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The demo's recipe on 16 frames; `variant` as there."""
    config = get_demo()
    config.frames = 16  # the coarsest grid has 4, which show the motion
    config.model.alpha = 4
    config.data.stride = 1  # the shortest videos have 24 frames

    config.schedule.steps = (1000, 1500, 1750)
    config.schedule.iterations = 2000
    config.schedule.warmup_iterations = 300

    config.eval.times = 5
    config.eval.clips = 2
    config.run.log_every = 25
    return as_variant(config, variant)
