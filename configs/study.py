r"""Ablation of multigrid's parts on moving_shapes, in some 70 minutes on two CPU cores.

    python main.py --config=configs/study.py --mode=prepare
    python -m mg_jax.study --config=configs/study.py --workdir=work/study --at_once=2

trains the paper's comparisons (`mg_jax/study/cells.py`) with three seeds each: the
baseline for 2,600 iterations, multigrid for 733. How task and length were chosen: `docs/study.md`.
"""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The demo's recipe, evaluated more often; `variant` as there."""
    config = get_demo()
    config.eval.times = 5
    config.run.log_every = 50
    return as_variant(config, variant)
