"""Runs that share the machine: on which cores, and as many as when the study began."""

import json
import os
import pathlib
import random

from mg_jax.errors import UserError
from mg_jax.machine.cores import usable_cores
from mg_jax.study.trials import Trial

# Of a work directory, by seed, with how many runs shared the machine.
RESULTS = "study.json"


def shares(at_once: int) -> list[list[int]]:
    """Splits the usable cores into equal shares, one for each run at a time; a rest stays idle.

    Raises:
      UserError: if there are fewer cores.
    """
    # Under a CPU quota there are more cores than may be used. Any of them will do; they are chosen
    # at random, since other containers use some as well.
    cores = sorted(random.sample(sorted(os.sched_getaffinity(0)), usable_cores()))
    if at_once > len(cores):
        raise UserError(
            f"--at_once={at_once} is more than the {len(cores)} cores there are; give that or less"
        )
    share = len(cores) // at_once
    return [cores[i * share : (i + 1) * share] for i in range(at_once)]


def check_at_once(at_once: int, trials: list[Trial], workdir: pathlib.Path) -> None:
    """Makes sure that as many runs share the machine as before, so that times are comparable.

    Raises:
      UserError: for another number, or a `study.json` that cannot be read.
    """
    path = workdir / RESULTS
    if not path.exists() or not any(trial.steps or trial.ended for trial in trials):
        return
    try:
        began = json.loads(path.read_text())["at_once"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it, which keeps the runs") from error
    if began != at_once:
        raise UserError(
            f"{workdir} began with --at_once={began}; times measured with {at_once} could not be "
            "compared. Go on with the same, or choose another --workdir"
        )
