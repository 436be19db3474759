"""I3D-R50 on Kinetics-400 (paper, Table 3).

16 frames at stride 4, batch 256, no warm-up, from a ResNet-50 trained on ImageNet: torchvision's
or timm's file, inflated. The paper reports 100k iterations for the baseline; multigrid takes
30,638, 3.3x fewer.

    python main.py --config=configs/kinetics_i3d.py --config.init_from=resnet50.pth --workdir=DIR
    python main.py --config=configs/kinetics_i3d.py:baseline --config.init_from=... --workdir=DIR
"""

from configs.base import as_variant, get_base


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_base()
    config.model.name = "i3d"
    config.batch = 256
    config.frames = 16
    config.data.stride = 4
    config.schedule.batch = 256
    config.schedule.learning_rate = 0.04
    config.schedule.steps = (37_500, 75_000)
    config.schedule.iterations = 100_000
    return as_variant(config, variant)
