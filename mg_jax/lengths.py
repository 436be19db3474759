"""Epochs of a schedule, and warnings if its length or batches do not fit the number of videos."""

from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.recipe import least_scale, recipe_from_config, schedule_from_config
from mg_jax.schedule import Schedule

# Warn if epochs differ from the recipe's by more than this factor.
_FAR = 2


def recipe_epochs(config, videos: int) -> float:
    """Epochs of the baseline, as long as the config's recipe makes it, over a number of videos."""
    recipe = recipe_from_config(config)
    return recipe.iterations * recipe.base.batch / videos


def _stated_epochs(config) -> float:
    """Epochs of the baseline over `schedule.videos`, the number that the recipe is meant for."""
    stated = config.schedule
    return stated.iterations * stated.batch / stated.videos


def describe_stated(config) -> str:
    """Text: the number of videos that the recipe's lengths are meant for."""
    return (
        f"these lengths are meant for {config.schedule.videos:,} videos "
        f"({_short(_stated_epochs(config))} epochs of the baseline); for N videos add --videos=N"
    )


def describe_epochs(config, schedule: Schedule, videos: int) -> str:
    """Text: the epochs, and warnings with advice.

    They are for epochs far from the recipe's, and for batches of more clips than there are videos.

    Args:
      config: of the run.
      schedule: that it describes.
      videos: number of videos to train on.
    """
    text = f"{_short(schedule.clips / videos)} epochs of {videos:,} videos"
    here, meant = recipe_epochs(config, videos), _stated_epochs(config)
    if schedule.clips != schedule.recipe.iterations * schedule.recipe.base.batch:
        text += f", the baseline {_short(here)}"
    warnings = []
    if not meant / _FAR <= here <= meant * _FAR:
        warnings.append(_length_warning(config, here / meant, videos))
    if _largest(schedule).batch > videos:
        warnings.append(_repetition_warning(config, schedule, videos))
    return "\n".join([text, *warnings])


def _largest(schedule: Schedule) -> Grid:
    """The grid with the most clips in a batch."""
    return max(schedule.grid_counts(), key=lambda grid: grid.batch)


def _repetition_warning(config, schedule: Schedule, videos: int) -> str:
    """The warning that batches show videos more than once."""
    way = "--config.batch=N"
    if config.multigrid.long_cycle:
        shapes = tuple(map(tuple, config.multigrid.shapes))
        for finer in (shapes[i:] for i in range(1, len(shapes))):
            tried = config.copy_and_resolve_references()
            tried.multigrid.shapes = finer
            try:
                fits = _largest(schedule_from_config(tried)).batch <= videos
            except UserError:  # of other lengths, which may not fit the warm-up
                continue
            if fits:
                given = str(finer).replace(" ", "")
                way = f'"--config.multigrid.shapes={given}" or {way}'
                break
    return (
        f"warning: a batch on {_largest(schedule)} has more clips than there are videos, "
        f"{videos:,}; it shows some more than once, and accuracy may suffer; {way} makes batches "
        "smaller"
    )


def _length_warning(config, ratio: float, videos: int) -> str:
    times = f"{_short(ratio)} times" if ratio > 1 else f"1/{_short(1 / ratio)} of"
    warning = (
        f"warning: that is {times} the recipe's epochs, whose lengths are for "
        f"{config.schedule.videos:,} videos (schedule.videos)"
    )
    wanted = float(f"{videos / config.schedule.videos:.2g}")
    scale = least_scale(config, wanted)
    way = f"--config.schedule.scale={scale:g} fits iterations, steps and warm-up"
    if scale == config.schedule.scale:
        way = "no smaller --config.schedule.scale leaves every stage iterations"
    if videos != config.schedule.videos:
        # Lengths that someone has set for these videos look like the recipe's.
        way += f"; where these lengths are meant, say --config.schedule.videos={videos}"
    return f"{warning}; {way}"


def _short(value: float) -> str:
    """Rounds to three digits, or to a whole number from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
