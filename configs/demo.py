"""A small I3D on moving_shapes: multigrid against the baseline in minutes on two CPU cores.

    make demo

runs both variants; by hand:

    python main.py --config=configs/demo.py --mode=prepare
    python main.py --config=configs/demo.py:baseline --workdir=work/demo_seed0_baseline
    python main.py --config=configs/demo.py:multigrid --workdir=work/demo_seed0_multigrid
"""

from configs.base import as_variant, get_base


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_base()
    config.batch = 8
    config.frames = 8
    config.size = 40

    # Few stages, with kernels over time from the stem on: a shape's way is to be seen where pixels
    # are fine, and each stage takes longer to compile than it trains here.
    config.model.name = "i3d"
    config.model.depth = 8
    config.model.width = 16
    config.model.stem_frames = 5
    config.model.stage_frames = ((3,), (3,))
    config.model.non_local.positions = ((), ())
    config.model.num_classes = 4
    config.model.dropout = 0.0

    config.data.name = "moving_shapes"
    config.data.dir = "work/data"
    config.data.short_sides = (40.0, 45.0)
    config.data.flip = False  # a mirrored "left" is a "right"
    config.prepare.short_side = 48

    config.schedule.batch = 8
    config.schedule.videos = 1_024
    config.schedule.learning_rate = 0.008
    config.schedule.steps = (2080, 3120, 3640)
    config.schedule.iterations = 4160
    config.schedule.warmup_iterations = 1280
    config.schedule.warmup_learning_rate = 0.001

    config.eval.times = 2
    config.eval.clips = 1
    config.eval.precise_bn_batches = 25
    config.eval.size = 40
    config.eval.short_side = 40

    config.run.cache_dir = "work/programs"
    config.run.checkpoint_every = 200
    config.run.compile_ahead = "first"  # compiling meanwhile takes cores from training
    return as_variant(config, variant)
