"""Tests run on eight CPU devices; nothing here imports TensorFlow before a test needs it."""

import collections
import dataclasses
import fcntl
import importlib
import os
import pathlib
import shutil

from mg_jax.machine import environment
from tests.xla_flags import xla_flags

os.environ["XLA_FLAGS"] = f"{xla_flags(devices=8)} {environment.XLA_FLAG}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.update(environment.DEFAULTS)

import pytest

from mg_jax.runtime import program_cache

# Compiled programs are kept between the tests of one checkout, in process and in subprocesses.
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "programs"
program_cache.cache_programs(CACHE, "cpu")
environment.collect_garbage_rarely()


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """Makes a folder by name for the tests of all workers: the first to ask calls `make`."""
    own = tmp_path_factory.getbasetemp()
    root = own if worker_id == "master" else own.parent

    def made(name, make):
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.made").exists():
                shutil.rmtree(root / name, ignore_errors=True)  # of a worker that failed
                make(root / name)
                (root / f"{name}.made").touch()
        return root / name

    return made


# A test is quick whose file names none of these and which needs none of these fixtures.
_SLOW_NAMES = {"jax", "jnp", "multiprocessing", "runs", "subprocess", "torch"}
_SLOW_FIXTURES = {"data_dir", "flags", "once", "undisturbed"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the quick tests, see `make quick`."""
    for item in items:
        slow = _SLOW_NAMES & vars(item.module).keys() or _SLOW_FIXTURES & set(item.fixturenames)
        if not slow:
            item.add_marker("quick")


@pytest.fixture(scope="session")
def data_dir(once) -> pathlib.Path:
    """A small prepared moving_shapes: 48 videos to train on, 11 to evaluate."""

    def make(folder):
        from configs.demo import get_config
        from data.moving_shapes import moving_shapes_dataset_builder as moving_shapes
        from mg_jax.tools.prepare import prepare

        config = get_config()
        config.data.dir = str(folder)
        with pytest.MonkeyPatch.context() as patch:
            videos = {"train": 48, "validation": 11}
            few = dataclasses.replace(moving_shapes.PLAIN, videos=videos)
            patch.setattr(moving_shapes, "PLAIN", few)
            prepare(config)

    return once("data", make)


@pytest.fixture(scope="session")
def flags(data_dir) -> list[str]:
    """Flags of subprocesses: where the data lies, and where their compiled programs do."""
    return [f"--config.data.dir={data_dir}", f"--config.run.cache_dir={CACHE}"]


@pytest.fixture
def config(data_dir):
    """The recipe of `tests/tiny.py` on the small data set."""
    from tests import tiny

    config = tiny.get_config()
    config.data.dir, config.run.cache_dir = str(data_dir), str(CACHE)
    return config


@pytest.fixture(scope="session")
def undisturbed(once, flags):
    """A run from start to end on one device, and what it printed."""

    def make(folder):
        from tests import runs

        folder.mkdir()
        (folder / "output").write_text(runs.run(folder / "run", *flags, anew=True))

    folder = once("undisturbed", make)
    return folder / "run", (folder / "output").read_text()


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A copy of the finished run's work directory."""
    return shutil.copytree(undisturbed[0], tmp_path / "copy")


@pytest.fixture(scope="session")
def reported(once, flags, undisturbed):
    """Runs of several seeds and reports on them, see `tests/reports.py`."""

    def make(folder):
        from tests import reports

        reports.make(folder, flags, undisturbed[0])

    return once("reported", make)


@pytest.fixture(scope="session")
def compared_seeds(reported):
    """The comparison of three seeds each of baseline and multigrid, the baseline first."""
    from mg_jax.report.comparison import compared_with_first
    from mg_jax.report.cost import with_flops
    from mg_jax.report.groups import group_runs
    from mg_jax.report.runs import read_runs

    names = ("baseline", "multigrid")
    folders = [reported / f"{name}_seed{seed}" for name in names for seed in range(3)]
    return compared_with_first(with_flops(group_runs(read_runs(folders))))


@pytest.fixture(autouse=True)
def _no_process_is_left():
    """Ends what a test that failed has left running."""
    yield
    from tests import runs

    runs.end_all()


@pytest.fixture(scope="session")
def torch():
    """PyTorch; tests that need it are left out where it is not installed."""
    return pytest.importorskip("torch", reason="no PyTorch: pip install torch")


@pytest.fixture(scope="session")
def torch_files(torch):
    """PyTorch's side of safetensors."""
    return importlib.import_module("safetensors.torch")


def pytest_terminal_summary(terminalreporter):
    """Names the tests that were left out, with what would bring them."""
    left_out = collections.defaultdict(dict)
    for report in terminalreporter.stats.get("skipped", []):
        *_, reason = report.longrepr
        left_out[reason.removeprefix("Skipped: ")][report.nodeid] = None
    for reason, names in left_out.items():
        terminalreporter.line(f"left out ({reason}): {', '.join(names)}")


@pytest.fixture
def source(tmp_path):
    """An empty folder for the originals of a data set."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder
