r"""SlowFast-R50 on your own videos: fine-tuning on one or a few devices (not in the paper).

Starts from a SlowFast-R50 trained on Kinetics-400: a work directory of `kinetics_slowfast.py`, or
PySlowFast's SLOWFAST_8x8_R50.pkl. Stated for about 5,000 videos: 20 epochs, 30 with multigrid,
which takes 1,737 iterations against the baseline's 6,000. What accuracy to expect depends on the
videos.

Call the data set what you like instead of NAME, prepare and train; with another number of videos
than 5,000 `--mode=plan` says by which --config.schedule.scale the lengths fit it:

    python main.py --config=configs/video_folder.py --config.data.name=video_folder/NAME \
        --config.prepare.source=DIR --mode=prepare
    python main.py --config=configs/video_folder.py --config.data.name=video_folder/NAME \
        --config.init_from=SLOWFAST_8x8_R50.pkl --workdir=DIR

What helps against overfitting: `docs/recipes.md`.
"""

from configs.base import as_variant, get_base


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_base()
    # With less memory 8: learning rate and iterations scale along. Multiples of sub_batch = 8.
    config.batch = 16
    config.frames = 32  # multiples of 16
    config.model.num_classes = 0  # as many as there are

    config.data.name = "video_folder/NAME"
    config.prepare.separator = ","  # of the columns of train.csv and validation.csv
    config.data.stride = 2  # a clip spans 64 source frames; raise it for slower actions
    config.data.flip = True  # False where left and right matter

    config.schedule.batch = 16
    config.schedule.videos = 5_000
    config.schedule.learning_rate = 0.01  # the paper: 0.03 on SSv2, 0.0375 on Charades
    config.schedule.steps = (4_000, 5_000)
    config.schedule.iterations = 6_000
    config.schedule.warmup_iterations = 500  # multigrid begins at 8 times the rate
    config.schedule.warmup_learning_rate = 1e-4

    config.eval.times = 5
    config.eval.precise_bn_batches = 50  # 200, five times, are too many for 1,737 iterations
    config.run.checkpoint_every = 200
    return as_variant(config, variant)
