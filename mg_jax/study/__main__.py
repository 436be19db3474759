"""`python -m mg_jax.study --config=FILE --set=SET --workdir=DIR`: trains cells with several seeds.

SET names questions, such as figure3 or table1; without it every cell is trained. Stop it at any
time; the same command goes on. Each cell with a seed has a work directory of main.py,
`DIR/CELL_seedN`, which all sets share. `DIR/study.md`, `DIR/study.json` and `DIR/figure3.png` hold
the results of all runs there that have ended so far; at the end the report on them is written too,
`DIR/report.html`.
"""

import pathlib
import re
import shlex
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from mg_jax.errors import UserError, did_you_mean
from mg_jax.input.prepared import check_prepared, with_classes
from mg_jax.machine.held_signals import held_signals
from mg_jax.recipe import schedule_from_config
from mg_jax.study.at_once import RESULTS, check_at_once, shares
from mg_jax.study.cells import cell_config, cells
from mg_jax.study.questions import SETS
from mg_jax.study.trials import Trial, run_trials
from mg_jax.tools import command_line
from mg_jax.workdir.config import check_same_config
from mg_jax.workdir.diverged import DIVERGED
from mg_jax.workdir.finished import SUMMARY
from mg_jax.workdir.lock import locked_workdir

flags.adopt_module_key_flags(command_line)
_WORKDIR = flags.DEFINE_string("workdir", None, "Holds a work directory for each run.")
_SEEDS = flags.DEFINE_integer(
    "seeds", 3, "Runs of each cell, with the config's seed and the next ones.", lower_bound=1
)
_SET = flags.DEFINE_list("set", None, f"Sets of questions, of {', '.join(SETS)}; by default all.")
_CELLS = flags.DEFINE_list("cells", None, "Names of cells, in place of --set.")
_AT_ONCE = flags.DEFINE_integer(
    "at_once",
    1,
    "Runs at a time, each on an equal share of the CPU's cores; where there are GPUs, give 1.",
    lower_bound=1,
)


def main(argv: list[str]) -> None:
    """Runs the study."""
    config = command_line.CONFIG.value
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; settings are --config.KEY=VALUE")
    if config is None or _WORKDIR.value is None:
        sys.exit("error: give --config=FILE, for example configs/study.py, and --workdir=DIR")
    logging.set_verbosity(logging.ERROR)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    if workdir.is_file():
        sys.exit(f"error: --workdir={workdir} is a file; give a folder, existing or not")
    with (
        command_line.signals_as_statuses(lambda: _so_far(workdir)),
        command_line.errors_as_messages(),
    ):
        _study(config, workdir)


def _so_far(workdir: pathlib.Path) -> str:
    ended = any([*workdir.glob(f"*/{SUMMARY}"), *workdir.glob(f"*/{DIVERGED}")])
    so_far = f"; so far see {workdir / 'study.md'}" if ended else ", no run has ended yet"
    return f"the same command goes on{so_far}"


def _study(config, workdir: pathlib.Path) -> None:
    trials = _trials(with_classes(config), workdir)
    check_at_once(_AT_ONCE.value, trials, workdir)
    free = shares(_AT_ONCE.value)
    for trial in trials:
        check_same_config(trial.folder, trial.config)
    asked = _asked_for(config, trials)
    check_prepared(config)
    with held_signals():  # what draws the results takes seconds to import
        command_line.stay_on_cpu()  # its runs use the accelerators
        from mg_jax.report.groups import read_groups
        from mg_jax.report.write import write_report
        from mg_jax.study.results import write_results

    def report() -> None:
        write_results(_config_file().stem, shlex.join(_flags({})), trials, _AT_ONCE.value, workdir)

    with locked_workdir(workdir):
        print(
            f"runs: {len(asked)}, {sum(trial.iterations for trial in asked):,} iterations; output "
            f"in {workdir}/CELL_seedN/output.txt",
            flush=True,
        )
        report()
        failed = run_trials(asked, free, report)
        pages = [str(workdir / "study.md"), str(workdir / RESULTS)]
        if ended := [trial.folder for trial in trials if trial.ended]:
            pages.insert(0, str(write_report(read_groups(ended), workdir)))
        seen = ", ".join(pages)
    if failed:
        more = "these did not finish, the same command goes on: " + "; ".join(failed)
        raise UserError(f"{more}. Of the others see {seen}")
    print(f"see {seen}; a larger --seeds goes on with more")


def _trials(config, workdir: pathlib.Path) -> list[Trial]:
    """The trials of all cells, for the seeds of the config and those with a work directory.

    They are ordered by seed, so that all cells have results early.
    """
    known = cells(config, config_flags.get_override_values(flags.FLAGS["config"]))
    names = (re.fullmatch(r".+_seed(\d+)", path.name) for path in workdir.glob("*"))
    there = {int(name[1]) for name in names if name}
    trials = []
    for seed in sorted({*there, *_seeds(config)}):
        for name, changed in known.items():
            cell = cell_config(config, changed, seed)
            trials.append(
                Trial(
                    cell=name,
                    seed=seed,
                    config=cell,
                    flags=_flags({**changed, "seed": seed}),
                    folder=workdir / f"{name}_seed{seed}",
                    iterations=schedule_from_config(cell).iterations,
                )
            )
    return trials


def _seeds(config) -> range:
    return range(config.seed, config.seed + _SEEDS.value)


def _asked_for(config, trials: list[Trial]) -> list[Trial]:
    known = list(dict.fromkeys(trial.cell for trial in trials))
    if _SET.value is not None and _CELLS.value is not None:
        raise UserError("give --set or --cells, not both")
    if _SET.value is not None:
        _check_names("--set", "set", _SET.value, list(SETS))
        questions = [question for name in _SET.value for question in SETS[name]]
        names = {answer.cell for question in questions for answer in question.answers}
        # What the others are compared with.
        names |= {question.reference for question in questions}
    elif _CELLS.value is not None:
        names = _CELLS.value
        _check_names("--cells", "cell", names, known)
    else:
        names = known
    return [trial for trial in trials if trial.cell in names and trial.seed in _seeds(config)]


def _check_names(flag: str, what: str, names: list[str], known: list[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = f"no {what} is called {', '.join(unknown)}" if unknown else f"no {what} is given"
        near = did_you_mean(unknown[0], known) if unknown else ""
        raise UserError(f"{flag}: {wrong}; there are {', '.join(known)}{near}")


def _flags(settings: dict) -> tuple[str, ...]:
    """The command line's --config with its overrides, some settings changed."""
    flag = flags.FLAGS["config"]
    changed = {**config_flags.get_override_values(flag), **settings}
    file = config_flags.get_config_filename(flag)  # with its variant
    return (f"--config={file}", *(f"--config.{k}={v}" for k, v in changed.items()))


def _config_file() -> pathlib.Path:
    file, *_ = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")
    return pathlib.Path(file)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
