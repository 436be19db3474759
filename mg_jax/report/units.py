"""Numbers for people, and units in which they are neither tiny nor huge."""


def signed(value: float) -> str:
    """With its sign and one digit; nothing that rounds to zero is negative."""
    return f"{round(value, 1) + 0.0:+.1f}"


def time_unit(seconds: float) -> tuple[float, str]:
    """A unit for times up to one: its length in seconds, and its name."""
    return next(
        ((length, name) for length, name in ((3600, "h"), (60, "min")) if seconds >= 2 * length),
        (1, "s"),
    )


def flops_unit(flops: float) -> tuple[float, str]:
    """A unit for counts of operations up to one: its size and its name."""
    names = ((1e18, "EFLOPs"), (1e15, "PFLOPs"), (1e12, "TFLOPs"))
    return next(((size, name) for size, name in names if flops >= size), (1e9, "GFLOPs"))
