"""What all recipes share: the authors' settings, where a recipe does not say otherwise."""

from ml_collections import ConfigDict

from mg_jax.errors import UserError, did_you_mean
from mg_jax.grid import SHORT_SHAPES
from mg_jax.published import PUBLISHED


def get_base() -> ConfigDict:
    """The settings that recipes start from: the authors', for SlowFast-R50 on Kinetics-400."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # weights to start from: a work directory or a published file
    # The base grid B x T x H x W. Learning rates and iterations below are stated for a batch of
    # schedule.batch; another config.batch scales the former linearly and the latter inversely.
    config.batch = 512
    config.frames = 32
    config.size = 224
    config.sub_batch = 8  # clips that share batch-norm statistics; 0: the whole batch
    config.model = _model()
    config.data = _data()
    config.prepare = _prepare()
    config.schedule = _schedule()
    config.multigrid = _multigrid()
    config.baseline = _baseline()
    config.optimizer = _optimizer()
    config.loss = _loss()
    config.augment = _augment()
    config.eval = _eval()
    config.run = _run()
    return config


def _model() -> ConfigDict:
    """The network."""
    model = ConfigDict()
    model.name = "slowfast"  # one of MODELS in mg_jax/architectures.py
    model.depth = 50
    model.width = 64
    model.alpha = 4  # SlowFast: frames of the fast pathway per frame of the slow one
    model.beta = 1 / 8  # SlowFast: channels of the fast pathway relative to the slow one's
    # Kernel sizes over time. The defaults are the paper's; `mg_jax/published.py` names others.
    model.stem_frames = 1  # of the stem; with two pathways, of the slow one's (the fast one's is 5)
    # Of the blocks of res2 ... res5, in turn: (3, 1) is 3 in every other block.
    model.stage_frames = ((1,), (1,), (3,), (3,))
    model.fast_stage_frames = ((3,), (3,), (3,), (3,))  # SlowFast: of the fast pathway
    model.fusion_frames = 7  # SlowFast: of the connections from the fast pathway to the slow one
    model.fusion_norm = True  # SlowFast: these connections have batch norm and ReLU
    model.slow_frames = "spread"  # SlowFast: from the first to the last; or every alpha-th
    model.stem_stride = 1  # I3D: of the stem over time
    model.pool_frames = 1  # I3D: frames that are max-pooled into one after res2
    model.pad_stem_pool = True  # pad pictures for the stem's max-pooling
    model.num_classes = 400  # 0: as many as the data set has
    model.dropout = 0.5
    model.drop_path = 0.0  # share of clips for which the last residual block is left out
    model.dtype = "float32"  # or bfloat16; parameters and statistics are float32 always
    model.non_local = ConfigDict()
    # Blocks of res2 ... res5, counted from 0, that a non-local block follows; of SlowFast, the slow
    # pathway's.
    model.non_local.positions = ((), (), (), ())
    model.non_local.instantiation = "dot_product"  # or softmax, unscaled_softmax
    model.non_local.pool = (1, 2, 2)  # keys and values are max-pooled by this
    model.non_local.pool_first = True  # pool before their projections, not after them
    return model


def _data() -> ConfigDict:
    """What is read, and how clips are drawn from it."""
    data = ConfigDict()
    data.name = "kinetics/400"  # a builder of data/, with /VARIANT where it has several
    data.dir = "~/tensorflow_datasets"  # holds the prepared data sets
    data.train_split = "train"
    data.eval_split = "validation"
    data.multi_label = False  # videos have any number of labels: sigmoids, mean average precision
    data.sampling = "stride"  # or segments: one frame from each of T equal parts of the video
    data.stride = 2  # tau, between the frames of a clip of T frames, in source frames
    data.short_sides = (256.0, 340.0)  # scale jitter of the short side at full size, pixels
    data.inverse_uniform = False  # jitter uniform in 1 / short side
    data.flip = True  # mirror half of the clips
    data.flip_pairs = ""  # CSV file of two classes a row that swap when a clip is mirrored
    # Classes are drawn as often as their number of videos to this power: 1 draws every video once
    # in an epoch, 0 all classes equally often.
    data.class_exponent = 1.0
    # The network's input is (x / 255 - mean) / std, for red, green and blue.
    data.mean = (0.45, 0.45, 0.45)
    data.std = (0.225, 0.225, 0.225)
    data.max_damaged = 0.01  # share of a split's videos that may be unreadable; more stop the run
    return data


def _prepare() -> ConfigDict:
    """How --mode=prepare makes the data set that `data` names."""
    prepare = ConfigDict()
    prepare.source = ""  # folder of the original lists and videos
    prepare.videos = ""  # the folder of the videos, in the source or absolute; empty: the source
    prepare.separator = " "  # between the columns of lists of paths and labels
    # Where there is no validation split, this share of the videos becomes it, such as 0.2, by a
    # hash of their names. Videos of one group stay together; lists name it in a column `group`.
    prepare.validation_share = 0.0
    # A regular expression that finds the group in a video's path, as what its (...) matches.
    prepare.group_pattern = ""
    prepare.short_side = 256  # frames with a longer short side are scaled down to it, pixels
    prepare.quality = 90  # of the JPEGs, 1 ... 95
    prepare.frame_step = 1  # keep every k-th frame; strides count source frames all the same
    prepare.max_broken = 0.02  # share of the videos that may be unreadable; more stop it
    prepare.workers = 0  # processes; 0 for one per core
    prepare.dry_run = False  # only report how the source is understood
    prepare.renew = False  # prepare an existing data set again; replace it once all is prepared
    return prepare


def _schedule() -> ConfigDict:
    """Learning rate and length, as the recipe states them for its batch."""
    schedule = ConfigDict()
    schedule.batch = 512  # the batch that this section is stated for
    # The number of training videos that these lengths are meant for. Training does not depend on
    # it; plans and runs warn where the data set has far more or fewer.
    schedule.videos = 240_000
    # Multiplies iterations, steps and warm-up, to fit another number of videos.
    schedule.scale = 1.0
    schedule.learning_rate = 0.8
    schedule.steps = (44_000, 72_000, 92_000)  # iterations at which the rate is multiplied
    schedule.iterations = 112_000
    schedule.decay = 0.1  # by this factor
    schedule.cosine = False  # decay along half a cosine instead of in steps
    schedule.warmup_iterations = 0
    schedule.warmup_learning_rate = 0.0
    return schedule


def _multigrid() -> ConfigDict:
    """The cycles."""
    multigrid = ConfigDict()
    multigrid.long_cycle = True
    multigrid.short_cycle = True
    # The long cycle's shapes from coarse to fine: divisors of the frames and of the area.
    multigrid.shapes = ((4, 2), (2, 2), (2, 1), (1, 1))
    multigrid.short_shapes = SHORT_SHAPES  # how many, from the end, of H/2, H/sqrt 2, base size
    multigrid.single_cycle = False  # one long cycle over the run, not one per stage
    multigrid.fine_tuning = True  # the last stage on the full shape
    multigrid.fine_tuning_share = 1.0  # fine-tuning's length relative to the last stage's
    multigrid.epoch_factor = 1.5  # multigrid's epochs relative to the recipe's
    multigrid.iterations = 0  # of the whole run; 0: by the epoch factor
    multigrid.short_cycle_rate = False  # scale the rate by the short cycle too; paper: harmful
    return multigrid


def _baseline() -> ConfigDict:
    """The baseline, which runs with both cycles off."""
    baseline = ConfigDict()
    baseline.epoch_factor = 1.0  # the baseline's epochs relative to the recipe's
    baseline.iterations = 0  # of the whole run; 0: by the epoch factor
    baseline.time_divisor = 1  # train on T / time_divisor frames throughout,
    baseline.area_divisor = 1  # at H / sqrt(area_divisor) pixels, B by Eq. 1
    return baseline


def _optimizer() -> ConfigDict:
    """How gradients change the weights."""
    optimizer = ConfigDict()
    optimizer.name = "sgd"  # or adamw
    optimizer.momentum = 0.9  # sgd
    optimizer.nesterov = True  # sgd
    optimizer.betas = (0.9, 0.999)  # adamw
    optimizer.weight_decay = 1e-4
    optimizer.layer_decay = 1.0  # learning rate of a stage relative to that of the next one
    optimizer.freeze = ""  # stem, res2 ... res5: this stage and those before it are not trained
    optimizer.clip_norm = 0.0  # largest norm of the gradient; 0: any
    # Decay, per schedule.batch clips, of the moving average of the weights that is evaluated in
    # place of the weights; 0: none.
    optimizer.average = 0.0
    return optimizer


def _loss() -> ConfigDict:
    """What is minimised."""
    loss = ConfigDict()
    loss.label_smoothing = 0.0  # share of a label that is spread over all classes
    loss.class_weights = ""  # CSV file of a class and its weight a row; 1 for others
    return loss


def _augment() -> ConfigDict:
    """How pixels of training clips are changed, beside crops and mirroring; 0 is off everywhere."""
    augment = ConfigDict()
    augment.rand_layers = 0  # RandAugment: operations one after the other
    augment.rand_magnitude = 7.0  # of them, 0 ... 10
    augment.brightness = 0.0  # colour jitter: factors lie in 1 - x ... 1 + x
    augment.contrast = 0.0
    augment.saturation = 0.0
    augment.hue = 0.0  # shift up to this share of the colour circle, at most 0.5
    augment.erase = 0.0  # share of clips in which a rectangle is erased
    augment.mixup = 0.0  # alpha of the Beta distribution of shares, pixel by pixel
    augment.cutmix = 0.0  # alpha, of the areas of rectangles
    augment.mix = 1.0  # share of clips that are mixed where mixup or cutmix is on
    # Strength of all this on the coarsest grid, T/4 x (H/2)^2, relative to the full one.
    augment.coarse = 1.0
    return augment


def _eval() -> ConfigDict:
    """Evaluation during training and at its end."""
    eval = ConfigDict()
    eval.times = 10  # evaluations on one centre view, evenly spread, the last at the run's end
    eval.precise_bn_batches = 200  # of the current base grid, before each evaluation
    eval.clips = 10  # per video in the full evaluation at the end,
    eval.crops = 1  # times 1 (centre) or 3 (along the longer side)
    eval.size = 224  # crop, pixels
    eval.short_side = 256  # of the scaled video, pixels
    return eval


def _run() -> ConfigDict:
    """How a run works, not what it computes: a run may continue with other values."""
    run = ConfigDict()
    run.log_every = 20  # iterations
    run.loggers = ("jsonl", "tensorboard")  # names of LOGGERS in mg_jax/recipe_settings.py
    run.log_norms = False  # of gradients and parameters, among the scalars of training
    run.profile_steps = ()  # the first iteration of a trace and the one after its last, if any
    run.checkpoint_every = 1000  # iterations
    run.keep = 3  # checkpoints
    run.accept_other_videos = False  # continue although the data set's videos have changed
    run.accumulate = 1  # parts of a batch that are computed one after the other, for less memory
    run.remat = False  # recompute activations inside blocks in the backward pass, for less memory
    # When programs are compiled: "background", the coming ones while training; "first", all before
    # the first iteration; "off", each when its turn comes. "auto" is background on CPUs, where
    # compiling changes no program and takes no device's memory, and first on accelerators, where
    # kernels are chosen by timing them on the device that would train meanwhile.
    run.compile_ahead = "auto"
    # On GPUs, equal bits from equal runs: algorithms are fixed, none is chosen by its time, at a
    # cost in speed. CPUs and TPUs give equal bits anyway.
    run.deterministic = False
    run.readers = 0  # processes that read and decode clips; 0 for one per core
    run.cache_dir = "~/.cache/mg_jax"  # compiled programs, kept between runs
    return run


def as_variant(config: ConfigDict, variant: str) -> ConfigDict:
    """Applies the part behind the colon of `--config=FILE:VARIANT`.

    Args:
      config: to change.
      variant: words between commas, each multigrid, baseline or the name of a published network,
        whose architecture, frames, stride and normalisation then replace the recipe's.

    Raises:
      UserError: for another word.
    """
    for word in filter(None, variant.split(",")):
        if word == "baseline":
            # A recipe's own cycles are not the baseline's.
            config.multigrid.update(_multigrid())
            config.multigrid.update(long_cycle=False, short_cycle=False)
        elif word in PUBLISHED:
            config.update_from_flattened_dict(PUBLISHED[word])
        elif word != "multigrid":
            near = did_you_mean(word, ("multigrid", "baseline", *PUBLISHED))
            raise UserError(
                f"config variant {word!r} is not known{near}{' Else use' if near else '; use'} "
                "multigrid or baseline, and with a comma between them a published network: "
                f"{', '.join(PUBLISHED)}"
            )
    return config
