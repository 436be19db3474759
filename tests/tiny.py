"""A recipe that trains in seconds: four grids, three stages, an I3D of two blocks."""

from configs.base import as_variant
from configs.demo import get_config as get_demo


def get_config(variant: str = ""):
    """The recipe; its data.dir and run.cache_dir come from the command line."""
    config = get_demo()
    config.batch = 8
    config.size = 32
    config.data.short_sides = (32.0, 36.0)
    config.eval.size = 32
    config.eval.short_side = 32
    config.schedule.batch = 8
    config.schedule.videos = 48
    config.schedule.learning_rate = 0.00001  # small, so that rounding errors do not grow
    config.schedule.steps = (36, 54)
    config.schedule.iterations = 72
    config.schedule.warmup_iterations = 6
    config.schedule.warmup_learning_rate = 0.000001
    config.multigrid.shapes = ((2, 1), (1, 1))
    config.multigrid.short_shapes = 2
    config.multigrid.epoch_factor = 1.0
    config.model.stem_frames = 1
    config.model.stage_frames = ((1,), (1,))
    config.model.alpha, config.model.beta = 2, 1 / 2
    config.model.width = 8
    config.model.dropout = 0.5
    config.eval.times = 4
    config.eval.precise_bn_batches = 2
    config.eval.clips = 2
    config.run.log_every = 1
    config.run.checkpoint_every = 5
    config.run.readers = 1  # each takes its time to start
    # So that a run that is killed and goes on still has to compile.
    config.run.compile_ahead = "off"
    return as_variant(config, variant)
