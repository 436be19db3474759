"""What all recipes share: the authors' settings, where a recipe does not say otherwise."""

from ml_collections import ConfigDict


def get_base() -> ConfigDict:
    """The settings that recipes start from: the authors', for SlowFast-R50 on Kinetics-400."""
    config = ConfigDict()
    config.seed = 0

    # The base grid B x T x H x W. Learning rates and iterations below are stated for a batch of
    # schedule.batch; another config.batch scales the former linearly and the latter inversely.
    config.batch = 512
    config.frames = 32
    config.size = 224
    config.sub_batch = 8  # clips that share batch-norm statistics

    config.model = ConfigDict()
    config.model.name = "slowfast"  # or i3d
    config.model.depth = 50
    config.model.width = 64
    config.model.alpha = 4  # SlowFast: frames of the fast pathway per frame of the slow one
    config.model.beta = 1 / 8  # SlowFast: channels of the fast pathway relative to the slow one's
    config.model.num_classes = 400
    config.model.dropout = 0.5
    config.model.dtype = "float32"  # or bfloat16; parameters and statistics are float32 always

    config.data = ConfigDict()
    config.data.name = "kinetics"
    config.data.dir = "~/tensorflow_datasets"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.stride = 2  # tau, between the frames of a clip of T frames, in source frames
    config.data.short_sides = (256.0, 340.0)  # scale jitter of the short side at full size, pixels
    config.data.inverse_uniform = False  # jitter uniform in 1 / short side
    config.data.flip = True  # mirror half of the clips

    config.schedule = ConfigDict()
    config.schedule.batch = 512  # the batch that this section is stated for
    config.schedule.learning_rate = 0.8
    config.schedule.steps = (44_000, 72_000, 92_000)  # iterations at which the rate is multiplied
    config.schedule.iterations = 112_000
    config.schedule.decay = 0.1  # by this
    config.schedule.cosine = False  # half a cosine instead of steps
    config.schedule.warmup_iterations = 0
    config.schedule.warmup_learning_rate = 0.0

    config.multigrid = ConfigDict()
    config.multigrid.long_cycle = True
    config.multigrid.short_cycle = True
    config.multigrid.long_shapes = 4  # S', the last S' of the four shapes
    config.multigrid.short_shapes = 3  # the last 1, 2 or 3 of H/2, H/sqrt 2, base size
    config.multigrid.single_cycle = False  # one long cycle over the run, not one per stage
    config.multigrid.fine_tuning = True  # the last stage on the full shape
    config.multigrid.epoch_factor = 1.5  # multigrid's epochs relative to the recipe's

    # The baseline is what runs with both cycles off.
    config.baseline = ConfigDict()
    config.baseline.epoch_factor = 1.0  # the baseline's epochs relative to the recipe's
    config.baseline.time_divisor = 1  # train on T / time_divisor frames throughout,
    config.baseline.area_divisor = 1  # at H / sqrt(area_divisor) pixels, B by Eq. 1

    config.optimizer = ConfigDict()
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4

    config.eval = ConfigDict()
    config.eval.times = 10  # evaluations on one centre view, spread over the run; the last is full
    config.eval.precise_bn_batches = 200  # of the current base grid, before each evaluation
    config.eval.clips = 10  # per video in the full evaluation,
    config.eval.crops = 1  # times 1 (centre) or 3 (along the longer side)
    config.eval.size = 224  # crop, pixels
    config.eval.short_side = 256  # of the scaled video, pixels

    # How a run works, not what it computes: these may change when a run continues.
    config.run = ConfigDict()
    config.run.log_every = 20  # iterations
    config.run.checkpoint_every = 1000  # iterations
    config.run.keep = 3  # checkpoints
    config.run.compile_ahead = True  # compile the coming grids' programs while training
    config.run.cache_dir = "~/.cache/mg_jax"  # compiled programs, kept between runs
    return config


def as_variant(config: ConfigDict, variant: str) -> ConfigDict:
    """Applies the part behind the colon of `--config=FILE:VARIANT`.

    Raises:
      ValueError: for a variant other than multigrid and baseline.
    """
    if variant not in ("", "multigrid", "baseline"):
        raise ValueError(f"config variant {variant!r} is not known; use multigrid or baseline")
    if variant == "baseline":
        config.multigrid.long_cycle = False
        config.multigrid.short_cycle = False
    return config
