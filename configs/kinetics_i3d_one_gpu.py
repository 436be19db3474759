r"""I3D-R50 on Kinetics-400 with one GPU (the paper's case study of training on a single device).

8 frames at stride 8, batch 8, neither dropout nor random scaling, from a ResNet-50 trained on
ImageNet. The paper's baseline takes 1.2M iterations; this multigrid takes 347,453, 3.5x fewer.

    python main.py --config=configs/kinetics_i3d_one_gpu.py --config.init_from=r50.pth --workdir=DIR
    python main.py --config=configs/kinetics_i3d_one_gpu.py:baseline --workdir=DIR \
        --config.init_from=r50.pth
"""

from configs.base import as_variant, get_base


def get_config(variant: str = ""):
    """The recipe, in one of the variants that `as_variant` knows: multigrid by default."""
    config = get_base()
    config.model.name = "i3d"
    config.model.dropout = 0.0
    config.batch = 8
    config.frames = 8
    config.data.stride = 8
    # No scale jitter on the base grid; coarse grids have it, to sample a wider span of the picture.
    config.data.short_sides = (256.0, 256.0)
    config.schedule.batch = 8
    config.schedule.learning_rate = 0.00125
    config.schedule.steps = (600_000, 1_000_000)
    config.schedule.iterations = 1_200_000
    return as_variant(config, variant)
