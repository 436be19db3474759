"""Loggers by name, norms among the scalars, and traces of some iterations."""

import collections
import json
import sys

import jax
import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.recipe_settings import LOGGERS
from mg_jax.runtime import parallel, xla_options
from mg_jax.training.arguments import step_arguments
from mg_jax.training.events import shown_at
from mg_jax.training.loggers import check_loggers, class_of
from mg_jax.training.profile import Profile
from mg_jax.training.programs import train_program
from mg_jax.training.run_log import RunLog
from mg_jax.training.state import create_state
from mg_jax.training.step import batch_shapes, lower_train_step
from tests.xla_flags import OPTIMISED

# Stands for the library, which is no requirement: what it is told goes into a file.
WANDB = """
import json, pathlib
class Run:
    def __init__(self, **told):
        self.file = (pathlib.Path(told["dir"]) / "told").open("a")
        self.say(told)
    def say(self, content):
        self.file.write(json.dumps(content) + "\\n")
    def define_metric(self, name, step_metric=None):
        pass
    def log(self, values):
        self.say(values)
    def finish(self):
        self.file.close()
init = lambda **told: Run(**told)
"""


@pytest.mark.parametrize("name", LOGGERS)
def test_each_name_stands_for_a_class_that_writes_scalars(name):
    assert all(callable(getattr(class_of(name), method)) for method in ("scalars", "close"))


def in_tensorboard(folder):
    """The values of each step and tag in the order of the files, less what TensorBoard drops."""
    import tensorflow as tf

    shown = collections.defaultdict(list)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if event.session_log.status == tf.compat.v1.SessionLog.START:
                shown = {key: v for key, v in shown.items() if key[0] < event.step}
                shown = collections.defaultdict(list, shown)
            for value in event.summary.value:
                shown[event.step, value.tag].append(value.simple_value)
    return dict(shown)


@pytest.mark.parametrize("evaluated", [False, True])
def test_tensorboard_shows_a_step_that_is_evaluated_again_once(evaluated, tmp_path):
    """The run was killed after a test at step 2, and if not `evaluated`, before it was kept."""
    TensorBoard = class_of("tensorboard")
    first = TensorBoard(tmp_path, 0, False)
    for step in (1, 2):
        first.scalars(step, {"loss": step / 4, "top1": step / 2}, "train")
    first.scalars(2, {"loss": 0.75}, "eval")
    first.scalars(2, {"loss": 0.5}, "test")
    first.scalars(3, {"loss": 8.0}, "train")
    first.close()
    for _ in range(2):  # killed once more before it writes anything
        TensorBoard(tmp_path, 2, evaluated).close()
    again = TensorBoard(tmp_path, 2, evaluated)
    if not evaluated:
        again.scalars(2, {"loss": 0.25}, "eval")
    again.scalars(2, {"loss": 0.125}, "test")
    again.close()
    assert in_tensorboard(tmp_path) == {
        (1, "train/loss"): [0.25],
        (1, "train/top1"): [0.5],
        (2, "train/loss"): [0.5],
        (2, "train/top1"): [1.0],
        (2, "eval/loss"): [0.75 if evaluated else 0.25],
        (2, "test/loss"): [0.125],
    }


def test_tensorboards_files_that_were_cut_off_are_read_to_their_end(tmp_path):
    TensorBoard = class_of("tensorboard")
    first = TensorBoard(tmp_path, 0, False)
    first.scalars(1, {"loss": 0.5}, "train")
    first.scalars(2, {"loss": 0.25}, "train")
    first.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    path.write_bytes(path.read_bytes()[:-3])
    assert shown_at(tmp_path, 1) == {"train/loss": 0.5}
    assert shown_at(tmp_path, 2) == {}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("loggers", ("jsonl", "tensorbord"), f"'tensorbord'; there are {', '.join(LOGGERS)}"),
        ("profile_steps", (5, 10_000_000), r"not all of the run, which has [\d,]+ iterations"),
        ("profile_steps", (5,), r"profile_steps=\(5,\) must be the first iteration"),
        ("profile_steps", (5, 5), r"such as \(100, 105\)"),
        ("profile_steps", (1.5, 3), r"such as \(100, 105\)"),
        ("loggers", ("jsonl", "jsonl"), r"run\.loggers=\('jsonl', 'jsonl'\).*each logger once"),
    ],
)
def test_wrong_settings_say_what_would_do(config, setting, value, message):
    config.run[setting] = value
    with pytest.raises(UserError, match=message):
        schedule_from_config(config)


def test_a_logger_that_is_not_installed_says_what_installs_it(monkeypatch):
    check_loggers(["jsonl", "tensorboard"])
    check_loggers(["mlflow"])  # which is refused with the other settings
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb, which is not installed: pip install wandb"):
        check_loggers(["jsonl", "wandb"])


def test_only_the_loggers_that_are_listed_write(tmp_path):
    log = RunLog(tmp_path, 0, 5, False, ["jsonl"])
    log.scalars(1, {"loss": 0.5})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def log_to_wandb(folder, start):
    """Logs the iteration after `start` to Weights & Biases, in a work directory."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"batch": 8}))
    log = RunLog(folder, start, 5, False, ["wandb"])
    log.scalars(start + 1, {"loss": 0.5})
    log.close()


def test_a_run_that_goes_on_is_one_run_of_weights_and_biases(tmp_path, monkeypatch):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(str(tmp_path / "library"))
    monkeypatch.setitem(sys.modules, "wandb", None)  # so that what is imported goes afterwards
    del sys.modules["wandb"]
    check_loggers(["wandb"])
    folder = tmp_path / "run"
    log_to_wandb(folder, 0)
    log_to_wandb(folder, 2)
    first, one, second, three = map(json.loads, (folder / "told").read_text().splitlines())
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert (first["name"], first["config"]) == ("run", {"batch": 8})
    assert one == {"step": 1, "train/loss": 0.5} and three["step"] == 3


def test_weights_and_biases_itself_takes_a_run_that_goes_on(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="no Weights & Biases: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, kept = tmp_path / "run", []
    for start in (0, 2):
        log_to_wandb(folder, start)
        wandb.teardown()  # as at the end of a process, which waits until all is written
        (path,) = (folder / "wandb" / "latest-run").glob("run-*.wandb")
        assert b"train/loss" in path.read_bytes()
        kept.append(path.name)
    assert kept[0] == kept[1] == f"run-{(folder / 'wandb_id').read_text()}.wandb"


def test_norms_are_those_of_the_gradients_and_change_no_bit(config):
    mesh = parallel.make_mesh()
    mesh = jax.sharding.Mesh(mesh.devices[:1], mesh.axis_names)
    grid = schedule_from_config(config).phases[-1].grids[-1]
    rng = np.random.default_rng(0)
    batch = {
        name: rng.integers(0, 2, x.shape).astype(x.dtype)
        for name, x in batch_shapes(config, train_program(grid)).items()
    }
    results = []
    for config.run.log_norms in (False, True):
        state = create_state(config, mesh)
        before = jax.device_get(state.params)
        lowered = lower_train_step(config, mesh, state, train_program(grid))
        step = lowered.compile(compiler_options={**xla_options.CPU, **OPTIMISED})
        arguments = step_arguments(config, 0.1, mesh)
        results.append(jax.device_get(step(state, parallel.shard(batch, mesh), arguments)))
    (plain, metrics), (state, logged) = results
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert logged.keys() - metrics.keys() == {"gradient_norm", "parameter_norm"}
    squares = [np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(state.params)]
    assert logged["parameter_norm"] == pytest.approx(np.sqrt(sum(squares)), rel=1e-5)
    # Nesterov's first step is 1.9 gradients times the rate; weights decay by 1e-4.
    moved = jax.tree.map(lambda a, b: (a - b) / 0.1 / 1.9, before, state.params)
    squares = [np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(moved)]
    assert logged["gradient_norm"] == pytest.approx(np.sqrt(sum(squares)), rel=1e-2)


def test_a_trace_holds_the_iterations_that_were_asked_for(tmp_path):
    profile = Profile(tmp_path / "profile", (2, 4))
    made = []
    for step in range(6):
        profile.end(step, np.zeros(1))
        made.append(profile._running)  # while evaluating and saving
        profile.start(step, np.zeros(1))
        made.append(profile._running)  # in the iteration
    assert made == [False, False, False, False, False, True, True, True, *[False] * 4]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    none = Profile(tmp_path / "none", ())
    none.start(0, np.zeros(1))
    none.close()
    assert not (tmp_path / "none").exists()
