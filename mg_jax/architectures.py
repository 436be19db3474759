"""Which models there are, as plain data: a plan can be checked where JAX is not installed."""

from mg_jax.errors import UserError

MODELS = ("i3d", "slowfast")
DTYPES = ("float32", "bfloat16")
AFFINITIES = ("dot_product", "softmax")

# Bottleneck blocks of res2 ... res5 by depth. 14 is for small data.
BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def check_model(config) -> None:
    """Checks the `model` section of a config.

    Raises:
      UserError: for a value that cannot be, naming those that can.
    """
    if config.name not in MODELS:
        raise UserError(f"model.name={config.name!r} is not known; there are {', '.join(MODELS)}")
    for name in ("width", "alpha"):
        if config[name] < 1:
            raise UserError(f"model.{name}={config[name]} must be at least 1")
    if config.num_classes < 0:
        raise UserError(
            f"model.num_classes={config.num_classes} must be at least 1, or 0 for as many as the "
            "data set has"
        )
    if not 0 <= config.dropout < 1:
        raise UserError(f"model.dropout={config.dropout} must lie in 0 ... 1, below 1")
    if config.depth not in BLOCKS:
        depths = ", ".join(map(str, BLOCKS))
        raise UserError(f"model.depth={config.depth} does not exist; there are {depths}")
    _check_non_local(config.non_local, BLOCKS[config.depth])
    if config.dtype not in DTYPES:
        raise UserError(f"model.dtype={config.dtype!r} is not supported; use {' or '.join(DTYPES)}")
    if config.name == "slowfast" and round(config.width * config.beta) < 1:
        raise UserError(
            f"model.beta={config.beta:g} of model.width={config.width} leaves the fast pathway "
            "without channels; make their product at least 1"
        )


def _check_non_local(config, blocks: tuple[int, ...]) -> None:
    positions = tuple(config.positions)
    fits = len(positions) == len(blocks) and all(
        isinstance(stage, (tuple, list)) and all(j in range(count) for j in stage)
        for stage, count in zip(positions, blocks, strict=True)
    )
    if not fits:
        raise UserError(
            f"model.non_local.positions={positions} must name, for each of res2 ... res5, blocks "
            f"that a non-local block follows, counted from 0; the stages have {blocks} blocks. "
            "For example ((), (1, 3), (1, 3, 5), ())"
        )
    if config.instantiation not in AFFINITIES:
        raise UserError(
            f"model.non_local.instantiation={config.instantiation!r} is not known; use "
            f"{' or '.join(AFFINITIES)}"
        )
    pool = tuple(config.pool)
    if len(pool) != 3 or not all(isinstance(size, int) and size > 0 for size in pool):
        raise UserError(
            f"model.non_local.pool={pool} must be whole numbers for time, height and width, for "
            "example (1, 2, 2)"
        )
