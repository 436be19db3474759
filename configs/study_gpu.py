r"""The study of `configs/study.py` at a size for one GPU: SlowFast-R50 on 64 clips of 16 x 64 x 64.

    python main.py --config=configs/study_gpu.py --mode=prepare
    python -m mg_jax.study --config=configs/study_gpu.py --workdir=work/study_gpu \
        --cells=baseline --seeds=1
    python -m mg_jax.study --config=configs/study_gpu.py --workdir=work/study_gpu

The second command shows how far the baseline gets in 4,000 iterations; multigrid takes 1,127. Where
the baseline saturates, variants are hardly told apart; where it still gains much from iterations,
compare multigrid with a baseline of as many, the cell `baseline_cut_1.5x`. Another
`schedule.iterations` needs another --workdir. Not yet run on any GPU.
"""

from configs.base import as_variant
from configs.study import get_config as get_study


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_study()
    config.batch = 64
    config.frames = 16
    config.size = 64

    config.model.depth = 50
    config.model.width = 64
    config.model.alpha = 4
    config.model.beta = 1 / 8
    config.model.dropout = 0.5
    config.model.dtype = "bfloat16"

    config.data.dir = "work/data_gpu"  # the demo's frames are smaller
    config.data.stride = 1  # the shortest videos have 24 frames
    config.data.short_sides = (64.0, 72.0)
    config.prepare.short_side = 72

    config.schedule.batch = 64
    config.schedule.learning_rate = 0.1
    config.schedule.steps = (2000, 3000, 3500)
    config.schedule.iterations = 4000
    config.schedule.warmup_iterations = 600
    config.schedule.warmup_learning_rate = 0.001

    config.eval.precise_bn_batches = 100
    config.eval.size = 64
    config.eval.short_side = 64

    config.run.compile_ahead = "auto"
    return as_variant(config, variant)
