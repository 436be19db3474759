"""Which models there are, as plain data: a plan can be checked where JAX is not installed."""

MODELS = ("i3d", "slowfast")
DTYPES = ("float32", "bfloat16")

# Bottleneck blocks of res2 ... res5 by depth. 14 is for small data.
BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def check_model(config) -> None:
    """Checks the `model` section of a config.

    Raises:
      ValueError: for a model, depth, dtype or width that does not exist, naming those that do.
    """
    if config.name not in MODELS:
        raise ValueError(f"model.name={config.name!r} is not known; there are {', '.join(MODELS)}")
    if config.depth not in BLOCKS:
        depths = ", ".join(map(str, BLOCKS))
        raise ValueError(f"model.depth={config.depth} does not exist; there are {depths}")
    if config.dtype not in DTYPES:
        raise ValueError(
            f"model.dtype={config.dtype!r} is not supported; use {' or '.join(DTYPES)}"
        )
    if config.name == "slowfast" and round(config.width * config.beta) < 1:
        raise ValueError(
            f"model.beta={config.beta:g} of model.width={config.width} leaves the fast pathway "
            "without channels; make their product at least 1"
        )
