"""`python -m mg_jax.study --config=FILE --workdir=DIR`: trains every cell with several seeds.

Stop it at any time; the same command goes on. Each cell with a seed is a work directory of main.py,
`DIR/CELL_seedN`; `DIR/study.md` and `DIR/study.json` hold what has come out so far, in the end
`DIR/report.html` too.
"""

import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from mg_jax import command_line
from mg_jax.lock import locked
from mg_jax.report.write import write_report
from mg_jax.study.cells import cell_config, cells
from mg_jax.study.results import check_way, write_results
from mg_jax.study.runs import CellRun, run_all, shares

flags.adopt_module_key_flags(command_line)
_WORKDIR = flags.DEFINE_string("workdir", None, "Holds a work directory for each run.")
_SEEDS = flags.DEFINE_integer(
    "seeds", 3, "Runs of each cell, with the config's seed and the next ones.", lower_bound=1
)
_CELLS = flags.DEFINE_list("cells", None, "Names of cells; all, where not given.")
_AT_ONCE = flags.DEFINE_integer(
    "at_once",
    1,
    "Runs at a time, each on an equal share of the CPU's cores; where there are GPUs, 1.",
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
    # The devices are its runs'.
    jax.config.update("jax_platforms", "cpu")
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    if workdir.is_file():
        sys.exit(f"error: --workdir={workdir} is a file; give a folder, existing or not")
    try:
        with command_line.errors_as_messages():
            _study(config, workdir)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")


def _study(config, workdir: pathlib.Path) -> None:
    runs, free = _runs(config, workdir), shares(_AT_ONCE.value)
    way = {"config": _config_file().stem, "seeds": _SEEDS.value, "at_once": _AT_ONCE.value}
    check_way(way, workdir)
    for run in runs:
        run.check()
    print(
        f"{len(runs)} runs, {sum(run.iterations for run in runs):,} iterations; they print to "
        f"{workdir}/CELL_seedN/output.txt",
        flush=True,
    )
    with locked(workdir):
        write_results(runs, way, workdir)
        run_all(runs, free, lambda: write_results(runs, way, workdir))
        print(_report(runs, workdir))
    print(
        f"see {workdir / 'study.md'} and {workdir / 'study.json'}; a larger --seeds goes on with "
        "more"
    )


def _report(runs: list[CellRun], workdir: pathlib.Path) -> str:
    """On the runs that have finished."""
    finished = [run.folder for run in runs if run.summary is not None]
    diverged = [run.folder.name for run in runs if run.diverged is not None]
    without = f"; not in it, since they diverged: {', '.join(diverged)}" if diverged else ""
    if not finished:
        return f"no report, since all runs diverged: {', '.join(diverged)}"
    return write_report(finished, workdir) + without


def _runs(config, workdir: pathlib.Path) -> list[CellRun]:
    """Seed by seed, so that what is there early is of all cells."""
    known = cells(config)
    names = list(known) if _CELLS.value is None else _CELLS.value
    strange = [name for name in names if name not in known]
    if strange or not names:
        given = ", ".join(strange) or "an empty list"
        raise ValueError(f"--cells: {given} will not do; there are {', '.join(known)}")
    return [
        CellRun(
            cell=name,
            seed=seed,
            config=cell_config(config, known[name], seed),
            flags=_flags({**known[name], "seed": seed}),
            folder=workdir / f"{name}_seed{seed}",
        )
        for seed in range(config.seed, config.seed + _SEEDS.value)
        for name in known
        if name in names
    ]


def _flags(settings: dict) -> tuple[str, ...]:
    """The command line's config with some settings changed."""
    given = config_flags.get_override_values(flags.FLAGS["config"])
    changed = {**given, **settings}
    return (f"--config={_config_file()}", *(f"--config.{k}={v}" for k, v in changed.items()))


def _config_file() -> pathlib.Path:
    file, *_ = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")
    return pathlib.Path(file)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
