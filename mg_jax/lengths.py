"""Whether a schedule's length fits the number of videos that it trains on."""

from mg_jax.recipe import least_scale, recipe_from_config
from mg_jax.schedule import Schedule

# Warn beyond this factor.
_FAR = 2


def recipe_epochs(config, videos: int) -> float:
    """Epochs of the baseline, as long as the config's recipe has it, over a number of videos."""
    recipe = recipe_from_config(config)
    return recipe.iterations * recipe.base.batch / videos


def _stated_epochs(config) -> float:
    """Epochs of the baseline over as many videos as the recipe's lengths are stated for."""
    stated = config.schedule
    return stated.iterations * stated.batch / stated.videos


def describe_stated(config) -> str:
    """What the recipe's lengths are for, in words."""
    return (
        f"these lengths are meant for {config.schedule.videos:,} videos "
        f"({_short(_stated_epochs(config))} epochs of the baseline); for N videos add --videos=N"
    )


def describe_epochs(config, schedule: Schedule, videos: int) -> str:
    """Epochs in words, and what to do where they are far from the recipe's."""
    text = f"{_short(schedule.clips / videos)} epochs of {videos:,} videos"
    here, meant = recipe_epochs(config, videos), _stated_epochs(config)
    if schedule.clips != schedule.recipe.iterations * schedule.recipe.base.batch:
        text += f", the baseline {_short(here)}"
    if meant / _FAR <= here <= meant * _FAR:
        return text
    return f"{text}\n{_warning(config, here / meant, videos)}"


def _warning(config, ratio: float, videos: int) -> str:
    times = f"{_short(ratio)} times" if ratio > 1 else f"1/{_short(1 / ratio)} of"
    warning = (
        f"warning: that is {times} the recipe's epochs, whose lengths are for "
        f"{config.schedule.videos:,} videos (schedule.videos)"
    )
    wanted = float(f"{videos / config.schedule.videos:.2g}")
    scale = max(wanted, least_scale(config))
    way = f"--config.schedule.scale={scale:g} fits iterations, steps and warm-up"
    if scale == config.schedule.scale:
        way = "no smaller --config.schedule.scale leaves every stage iterations"
    # Iterations that someone has set by hand for these videos cannot be told from the recipe's.
    return f"{warning}; {way}; where these lengths are meant, say --config.schedule.videos={videos}"


def _short(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
