"""SlowFast-R50 on Kinetics-400 (paper, Sec. 4.1 and Table 1).

32 frames at stride 2 (8 x 8 in the slow pathway), batch 512, from scratch. The paper reports a
baseline of 112k iterations; multigrid takes 32,686, 3.4x fewer (4.5x faster in wall-clock time),
and ends 0.8 % more accurate.

    python main.py --config=configs/kinetics_slowfast.py --workdir=DIR
    python main.py --config=configs/kinetics_slowfast.py:baseline --workdir=DIR

The batch of 512 is for 64 devices of 8 clips; with eight, `--config.batch=64` scales learning rate
and iterations along.

The paper's other settings on Kinetics-400 have their own files: `kinetics_slowfast_r101.py`
(ResNet-101), `kinetics_slowfast_16f.py` and `kinetics_slowfast_64f.py` (frames) and
`kinetics_slowfast_320.py` (pixels); combined, they are flags, such as `--config.model.depth=101`.
With pre-training this recipe starts from a ResNet-50 trained on ImageNet, torchvision's or timm's
file, inflated into the slow pathway:

    python main.py --config=configs/kinetics_slowfast.py --config.init_from=r50.pth --workdir=DIR

All of them keep this batch, learning rate and schedule, a choice made here: the method is meant to
carry over without tuning.
"""

from configs.base import as_variant, get_base


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_base()
    config.batch = 512
    config.frames = 32
    config.size = 224
    config.data.stride = 2
    config.schedule.batch = 512
    config.schedule.learning_rate = 0.8
    config.schedule.steps = (44_000, 72_000, 92_000)
    config.schedule.iterations = 112_000
    config.schedule.warmup_iterations = 16_000
    config.schedule.warmup_learning_rate = 0.002
    return as_variant(config, variant)
