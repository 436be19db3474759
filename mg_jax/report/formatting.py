"""Numbers for people, and units in which they are neither tiny nor huge."""

from mg_jax.report.groups import Spread

NOTHING = "\N{EN DASH}"  # where there is no number


def number(value: Spread, digits: int, scale: float = 1) -> str:
    """A mean with its standard deviation, where it has one, both multiplied by `scale`."""
    text = f"{scale * value.mean:,.{digits}f}"
    if value.deviation is not None:
        text += f" ± {scale * value.deviation:,.{digits}f}"
    return text


def percent(share: Spread) -> str:
    """A share of one in percent, without the sign."""
    return number(share, 1, 100)


def signed(value: float) -> str:
    """With its sign and one digit; nothing that rounds to zero is negative."""
    return f"{round(value, 1) + 0.0:+.1f}"


def times(ratio: float) -> str:
    """A ratio as a factor, such as 3.43×."""
    return f"{ratio:.2f}×"


def in_words(ratio: float, above: str, same: str, below: str) -> str:
    """A ratio as a factor of at least 1 and a word for its direction.

    Args:
      ratio: such as how many times faster something is.
      above: says that it is above 1, such as "faster".
      same: stands alone where the ratio rounds to 1, such as "as fast".
      below: says that the ratio is below 1, such as "slower", with 1 / `ratio` as the factor.
    """
    if times(ratio) == times(1):
        return same
    return f"{times(ratio)} {above}" if ratio > 1 else f"{times(1 / ratio)} {below}"


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
