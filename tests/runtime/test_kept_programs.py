"""Programs kept whole: found without lowering them, and only where they are the same."""

import json
import math
import os
import shutil
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import lax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mg_jax.runtime import kept_programs, parallel, program_cache, xla_options
from mg_jax.runtime.executables import Program
from mg_jax.runtime.kept_programs import KeptPrograms
from mg_jax.training import programs
from mg_jax.training.programs import lower_program
from mg_jax.training.state import _init_state, create_state, init_variables, state_shapes
from tests import runs, tiny
from tests.everything import EVERYTHING


@pytest.fixture
def folder(tmp_path):
    """An empty folder of programs, JAX's and whole ones."""
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    compilation_cache.reset_cache()
    program_cache.cache_programs(tmp_path / "cache", "cpu")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The only source of a package, older than this process."""
    path = tmp_path / "package" / "network.py"
    path.parent.mkdir()
    path.write_text("# a network\n")
    monkeypatch.setattr(kept_programs, "_PACKAGE", path.parent)
    monkeypatch.setattr(kept_programs, "_BEGAN", math.inf)
    return path


def started(made_from="settings", count=2, key="train", factor=3.0, unused=jnp.int32):
    """What a process finds that starts now: is it found, was it lowered; the program works."""
    jax.clear_caches()
    devices, lowered = jax.devices()[:count], []
    mesh = Mesh(np.array(devices), (parallel.AXIS,))

    def lower():
        lowered.append(key)
        step = parallel.pmap(
            lambda state, x, _: (
                {"w": state["w"] * factor + lax.psum(x.sum(), parallel.AXIS)},
                x,
            ),
            mesh,
            in_specs=(parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT),
            out_specs=(parallel.REPLICATED, parallel.SPLIT),
            donate=(0,),
        )
        shape = jax.ShapeDtypeStruct((8,), jnp.float32)
        state = parallel.abstract({"w": shape}, mesh, parallel.REPLICATED)
        split = (shape, jax.ShapeDtypeStruct((8,), unused))
        return step.lower(state, *parallel.abstract(split, mesh, parallel.SPLIT))

    program, is_found = KeptPrograms(made_from, devices).lower(key, lower)()
    state = parallel.replicate({"w": np.ones(8, np.float32)}, mesh)
    x = np.arange(8, dtype=np.float32)
    new, same = program(state, *parallel.shard((x, x.astype(unused)), mesh))
    np.testing.assert_array_equal(new["w"], factor + x.sum() + np.zeros(8))
    np.testing.assert_array_equal(same, x)
    assert state["w"].is_deleted()
    return is_found, bool(lowered)


COMPILED, LOWERED, KNOWN = (False, True), (True, True), (True, False)


def test_the_next_start_does_not_lower_it(folder, source):
    assert started() == COMPILED
    assert started() == KNOWN


def test_what_it_is_made_from_tells_programs_apart(folder, source):
    assert started() == COMPILED
    for other in (
        {"count": 1},
        {"key": "views", "factor": 2.0},
        {"made_from": "other settings", "factor": 5.0},
    ):
        assert started(**other) == COMPILED
        assert started(**other) == KNOWN
    assert started() == KNOWN


def test_the_same_program_of_other_settings_or_sources_is_not_compiled_again(folder, source):
    started()
    assert started("other settings") == LOWERED
    assert started("other settings") == KNOWN
    source.write_text("# a network, explained\n")
    assert started() == LOWERED
    assert started() == KNOWN
    (source.parent / "new.py").touch()
    assert started() == LOWERED
    assert started() == KNOWN
    (source.parent / ".#new.py").symlink_to("an editor's lock")
    assert started() == KNOWN


def test_arguments_that_it_does_not_use_tell_programs_apart(folder, source):
    started()
    for file in folder.glob("jit_*"):  # JAX's, for which they make no difference
        file.unlink()
    assert started("other labels", unused=jnp.uint8) == COMPILED
    assert started("other labels", unused=jnp.uint8) == KNOWN
    assert started() == KNOWN


def test_where_sources_may_have_changed_or_cannot_be_read_programs_are_lowered(
    folder, source, monkeypatch
):
    started()
    with monkeypatch.context() as patch:
        patch.setattr(kept_programs, "_BEGAN", time.time() - 3600)
        assert started() == LOWERED
        newer = source.with_suffix(".new")
        newer.write_text("# another network\n")
        os.utime(newer, (0, 0))
        newer.rename(source)  # as rsync does, and keeps the file's old time
        assert started() == LOWERED
        assert started() == LOWERED
    assert started() == LOWERED
    assert started() == KNOWN
    source.unlink()
    assert started() == LOWERED  # an archive has no sources
    assert started() == LOWERED
    source.symlink_to("nothing")
    assert started() == LOWERED


@pytest.mark.parametrize("of", ["program", "pointer"])
def test_what_is_damaged_is_made_again(folder, source, of):
    started()
    (program,) = (folder / "whole" / "programs").iterdir()
    (pointer,) = (path for path in (folder / "whole").iterdir() if path.is_file())
    path = program if of == "program" else pointer
    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (
        content[:middle],
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        b"\xff" + content[1:],
        bytes(len(content)),
        b"",
    ):
        path.write_bytes(damaged)
        for file in folder.glob("jit_*"):  # JAX's
            file.unlink()
        assert started() == (COMPILED if of == "program" else LOWERED)
        assert started() == KNOWN


def test_what_jax_has_found_is_not_kept_since_it_is_not_whole(folder, source):
    started()
    shutil.rmtree(folder / "whole")
    assert started() == LOWERED
    assert not (folder / "whole" / "programs").exists()
    assert started() == LOWERED


def test_where_nothing_can_be_written_programs_are_compiled(folder, source):
    folder.mkdir()
    (folder / "whole").touch()
    assert started() == COMPILED
    assert started() == LOWERED


def test_the_initial_state_is_traced_and_compiled_once_for_all_seeds(folder, source):
    mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    config, traced = tiny.get_config(), []

    def listen(event, _, fun_name=None, **__):
        if event.endswith("jaxpr_trace_duration") and fun_name == "_init_state":
            traced.append(config.seed)

    found = []
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for config.seed in (0, 1, 1 << 40):
            jax.clear_caches()
            written = program_cache.written_here()
            state = create_state(config, mesh)
            found.append(program_cache.written_here() == written)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert found == [False, True, True]
    assert traced == [0]
    shapes = parallel.abstract(state, mesh, parallel.REPLICATED)
    assert shapes == parallel.abstract(state_shapes(config), mesh, parallel.REPLICATED)
    drawn = jax.jit(lambda: init_variables(config), compiler_options=xla_options.for_once("cpu"))()
    for a, b in zip(*map(jax.tree.leaves, (state.params, drawn["params"])), strict=True):
        np.testing.assert_array_equal(a, b)


# Settings that no program is said to be made from, of sections some, with other values than the
# recipe's.
OTHERS = {
    "seed": 7,
    "init_from": "weights.pyth",
    "frames": 16,
    "size": 64,
    "sub_batch": 4,
    "multigrid.shapes": ((1, 1),),
    "multigrid.short_cycle_rate": True,
    "multigrid.fine_tuning": False,
    "baseline.iterations": 77,
    "baseline.time_divisor": 2,
    "prepare.short_side": 77,
    "data.name": "video_folder",
    "data.dir": "elsewhere",
    "data.train_split": "training",
    "data.eval_split": "test",
    "data.max_damaged": 7,
    "data.sampling": "segments",
    "data.stride": 7,
    "data.short_sides": (70.0, 77.0),
    "data.inverse_uniform": True,
    "data.flip": True,
    "data.flip_pairs": "pairs.csv",
    "data.class_exponent": 0.5,
    "schedule.videos": 77,
    "schedule.scale": 0.5,
    "schedule.learning_rate": 0.7,
    "schedule.steps": (7,),
    "schedule.iterations": 77,
    "schedule.decay": 0.7,
    "schedule.cosine": True,
    "schedule.warmup_iterations": 7,
    "schedule.warmup_learning_rate": 0.07,
    "eval.times": 7,
    "eval.clips": 7,
    "eval.crops": 3,
    "eval.size": 77,
    "eval.short_side": 77,
    "run.cache_dir": "elsewhere",
    "run.readers": 7,
    "run.compile_ahead": "first",
    "run.accept_other_videos": True,
    "run.log_every": 7,
    "run.loggers": ("jsonl",),
    "run.profile_steps": (7, 8),
    "run.checkpoint_every": 7,
    "run.keep": 7,
}


def test_settings_that_no_program_is_made_from_change_none():
    sections = {name.partition(".")[0] + "." for name in OTHERS}
    assert {*OTHERS, *sections} >= {*programs.NOT_IN_PROGRAMS}
    recipe = flatten_dict(json.loads(tiny.get_config().to_json()), sep=".")
    assert not [name for name, value in OTHERS.items() if recipe[name] == value]
    mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    lowered = []
    for values in ({}, OTHERS):
        config = runs.config_of(tiny, **values, **{"model.num_classes": 4})
        state = create_state(config, mesh)
        kinds = ("train", 8), ("statistics", 8), ("views", 0)
        for kind, sub_batch in kinds:
            program = Program(kind, 8, 4, 32, sub_batch, views=2 * (kind == "views"))
            lowered.append(lower_program(config, mesh, state, program).as_text())
    assert lowered[:3] == lowered[3:]


class Read:
    """A config, or a section of one, that keeps the names of the settings that are read."""

    def __init__(self, settings, names, section=""):
        self._settings, self._names, self._section = settings, names, section

    def __getattr__(self, name):
        value = getattr(self._settings, name)
        if isinstance(value, ConfigDict):
            return Read(value, self._names, f"{self._section}{name}.")
        if not callable(value):
            self._names.add(self._section + name)
        return value


@pytest.mark.parametrize("augmented", [False, True])
def test_programs_are_made_from_no_setting_that_is_left_out(augmented):
    config, names = tiny.get_config(), set()
    config.model.num_classes = 4
    config.update_from_flattened_dict(EVERYTHING if augmented else {})
    mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    shapes, read = state_shapes(config), Read(config, names)
    jax.jit(partial(_init_state, read)).lower(0)
    for kind in ("train", "statistics", "views"):
        program = Program(kind, 32, 4, 32, 8 * (kind != "views"), views=2 * (kind == "views"))
        lower_program(read, mesh, shapes, program, (1.0,) * 4)
    sections = {name.partition(".")[0] + "." for name in names}
    assert not {*names, *sections} & {*programs.NOT_IN_PROGRAMS}
    expected = {"data.mean", "run.accumulate", "eval.precise_bn_batches", "optimizer.momentum"}
    if augmented:
        expected |= {"batch", "schedule.batch", "augment.erase", "optimizer.betas"}
        expected -= {"optimizer.momentum"}
    assert names >= expected


def test_every_other_setting_and_class_weights_and_shapes_tell_programs_apart():
    def made_from(config, weights=None, width=8):
        return programs.made_from(config, jax.ShapeDtypeStruct((width,), jnp.float32), weights)

    config = tiny.get_config()
    texts = [made_from(config), made_from(config, (1.0, 2.0)), made_from(config, width=9)]
    names = flatten_dict(json.loads(config.to_json()), sep=".")
    for name in names:
        changed = config.copy_and_resolve_references()
        with changed.ignore_type():
            changed.update_from_flattened_dict({name: "another value"})
        is_free = name in OTHERS or name.startswith(("multigrid.", "baseline.", "prepare."))
        assert (made_from(changed) == texts[0]) == is_free, name
        texts += [] if is_free else [made_from(changed)]
    assert len(set(texts)) == len(texts) > 50
