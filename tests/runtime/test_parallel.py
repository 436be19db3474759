import gc
import threading
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh

from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel, xla_options
from mg_jax.runtime.executables import Executables, Program
from mg_jax.training.arguments import step_arguments
from mg_jax.training.programs import create_executables, lower_program, train_program
from mg_jax.training.state import create_state
from mg_jax.training.step import batch_shapes, lower_train_step
from tests import tiny


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))


def random_batch(program, seed):
    rng = np.random.default_rng(seed)
    shapes = batch_shapes(tiny.get_config(), program)
    return {
        "clips": rng.integers(0, 256, shapes["clips"].shape, np.uint8),
        "flip": rng.integers(0, 2, shapes["flip"].shape) > 0,
        "label": rng.integers(0, 4, shapes["label"].shape, np.int32),
    }


def test_pmap_is_per_device_code_over_a_named_axis():
    mesh = parallel.make_mesh()
    step = parallel.pmap(
        lambda a, x: (a + lax.psum(x.sum(), parallel.AXIS), lax.axis_index(parallel.AXIS) + x),
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT),
        out_specs=(parallel.REPLICATED, parallel.SPLIT),
    )
    total, x = step(parallel.replicate(np.float32(1), mesh), parallel.shard(np.arange(16), mesh))
    assert total == 1 + np.arange(16).sum()
    np.testing.assert_array_equal(x, np.arange(16) + np.repeat(np.arange(8), 2))


def test_a_schedule_compiles_one_program_per_grid_and_nothing_later(mesh):
    """Counts what XLA itself compiles, iteration by iteration, over a whole schedule."""
    config = tiny.get_config()
    schedule = schedule_from_config(config)
    state = create_state(config, mesh)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    executables = Executables(compiles(partial(lower_program, config, mesh, shapes)))
    compilations = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            compilations.append(duration)

    seen, batches = set(), {}
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for step in range(schedule.iterations):
            program = train_program(schedule.grid(step))
            if program not in seen:
                batches[program] = parallel.shard(random_batch(program, step), mesh)
            before = len(compilations)
            arguments = step_arguments(config, schedule.learning_rate(step), mesh)
            state, metrics = executables.get(program)(state, batches[program], arguments)
            assert len(compilations) - before == (program not in seen), step
            seen.add(program)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert np.isfinite(metrics["loss"])
    assert int(state.step) == schedule.iterations
    assert executables.compiled == list(map(train_program, schedule.grids_from(0)))
    assert len(seen) == 4


def compiles(lower):
    """Compiles what `lower` gives, whatever is on disk."""

    def lower_to_compile(program):
        lowered = lower(program)
        return lambda: (lowered.compile(compiler_options=xla_options.CPU), False)

    return lower_to_compile


def test_programs_are_compiled_once_however_often_they_are_asked_for():
    lowered = []

    def lower(program):
        lowered.append(program)
        return jax.jit(lambda x: x * program.batch).lower(jnp.float32(0))

    executables = Executables(compiles(lower))
    programs = [Program("train", batch, 8, 32, 8) for batch in (1, 2, 3)]
    executables.request(programs + programs[::-1])
    for program in programs * 2:
        assert executables.get(program)(jnp.float32(2)) == 2 * program.batch
    executables.close()
    assert lowered == programs
    assert executables.stall_s > 0


def test_the_next_program_alone_is_lowered_while_one_compiles():
    next_lowered = threading.Event()
    programs, lowered = [Program("train", i, 8, 32, 8) for i in (1, 2, 3, 4)], []

    def lower(program):
        lowered.append(program)
        if len(lowered) == 2:
            next_lowered.set()

        def compile_lowered():
            assert next_lowered.wait(60)
            assert set(lowered) - set(executables.compiled) <= {programs[len(lowered) - 1]}
            return jax.jit(lambda x: x * program.batch).lower(0.0).compile(), False

        return compile_lowered

    executables = Executables(lower)
    executables.request(programs)
    for program in programs:
        assert executables.get(program)(2.0) == 2 * program.batch
    executables.close()
    assert lowered == executables.compiled == programs


def test_programs_that_are_given_up_are_neither_lowered_nor_compiled():
    go_on, lowered = threading.Event(), []

    def lower(program):
        lowered.append(program)
        assert go_on.wait(60)
        if program == programs[3]:
            raise ValueError("cannot be lowered")
        return jax.jit(lambda x: x * program.batch).lower(0.0)

    executables = Executables(compiles(lower))
    programs = [Program("train", batch, 8, 32, 8) for batch in range(1, 6)]
    executables.request(programs)
    executables.retain([programs[0], *programs[3:]])
    executables.request(programs[1:2])  # after all, and last
    go_on.set()
    with pytest.raises(ValueError, match="cannot be lowered"):
        executables.get(programs[3])
    for program in (programs[0], programs[4], programs[1]):
        assert executables.get(program)(2.0) == 2 * program.batch
    executables.close()
    assert lowered == executables.compiled == [*(programs[i] for i in (0, 3, 4, 1))]


def test_a_program_that_is_lowered_and_given_up_makes_room_for_the_next():
    requested, last_lowered, lowered = threading.Event(), threading.Event(), []
    programs = [Program("train", batch, 8, 32, 8) for batch in (1, 2, 3)]

    def lower(program):
        assert requested.wait(60)
        lowered.append(program)
        if program == programs[1]:
            executables.retain([programs[0], programs[2]])
        if program == programs[2]:
            last_lowered.set()

        def compile_lowered():
            assert last_lowered.wait(60)
            return jax.jit(lambda x: x * program.batch).lower(0.0).compile(), False

        return compile_lowered

    executables = Executables(lower)
    executables.request(programs)
    requested.set()
    for program in (programs[0], programs[2]):
        assert executables.get(program)(2.0) == 2 * program.batch
    executables.close()
    assert lowered == programs
    assert executables.compiled == [programs[0], programs[2]]


def test_a_program_that_is_being_lowered_at_the_end_is_not_compiled():
    begun, go_on, compiled = threading.Event(), threading.Event(), []

    def lower(program):
        begun.set()
        assert go_on.wait(60)
        return lambda: compiled.append(program)

    executables = Executables(lower)
    executables.request(Program("train", batch, 8, 32, 8) for batch in (1, 2))
    assert begun.wait(60)
    executables.close()
    go_on.set()
    executables._compiling.shutdown()  # waits for what has begun
    assert not compiled


def test_what_is_left_to_compile_is_counted():
    go_on = threading.Event()

    def lower(program):
        assert go_on.wait(60)
        return jax.jit(lambda x: x * program.batch).lower(jnp.float32(0))

    executables = Executables(compiles(lower))
    programs = [Program("train", batch, 8, 32, 8) for batch in (1, 2, 3)]
    executables.request(programs)
    assert executables.pending == 3
    assert executables.format_left(3) == "; programs to go: 3"
    go_on.set()
    executables.get(programs[2])
    assert executables.pending == 0
    executables._seconds = [2.0, 4.0]
    assert executables.format_left(2) == "; programs to go: 2, about 3 s each, 6 s in all"
    executables._seconds = [0.2, 0.4]  # from disk
    assert executables.format_left(2) == "; programs to go: 2"
    executables.close()


def test_programs_that_are_not_needed_any_more_are_freed():
    executables = Executables(compiles(lambda p: jax.jit(lambda x: x + p.batch).lower(0.0)))
    programs = [Program("train", batch, 8, 32, 8) for batch in (1, 2, 3)]
    alive = {program: weakref.ref(executables.get(program)) for program in programs}
    executables.retain(programs[1:])
    gc.collect()
    assert [alive[program]() is None for program in programs] == [True, False, False]
    assert executables.get(programs[0])(0.0) == 1
    assert executables.compiled == [*programs, programs[0]]
    executables.close()


def test_a_program_that_does_not_compile_raises_where_it_is_asked_for():
    def lower(program):
        raise ValueError("cannot be lowered")

    executables = Executables(compiles(lower))
    executables.request([Program("train", 1, 8, 32, 8)])
    with pytest.raises(ValueError, match="cannot be lowered"):
        executables.get(Program("train", 1, 8, 32, 8))
    executables.close()


def test_rematerialisation_computes_the_same_with_another_forward_pass(mesh):
    config = tiny.get_config()
    config.model.depth, config.model.non_local.positions = 14, ((), (), (), ())
    config.model.stage_frames = ((1,), (1,), (3,), (3,))
    program = Program("train", 16, 8, 32, sub_batch=8)
    flops, losses, states = [], [], []
    for config.run.remat in (False, True):
        state = create_state(config, mesh)
        lowered = lower_train_step(config, mesh, state, program)
        flops.append(lowered.cost_analysis()["flops"])
        batch = parallel.shard(random_batch(program, 0), mesh)
        arguments = step_arguments(config, 0.1, mesh)
        compiled = lowered.compile(compiler_options=xla_options.CPU)
        state, metrics = compiled(state, batch, arguments)
        losses.append(float(metrics["loss"]))
        states.append(state)
    # A third, less the stem and the classifier. XLA's CPU compiler takes it out again.
    assert 1.2 < flops[1] / flops[0] < 4 / 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_another_seed_drops_other_features_in_the_same_program():
    config, losses = tiny.get_config(), []
    mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    program = Program("train", 64, 4, 32, sub_batch=16)
    states = [create_state(config, mesh) for _ in range(3)]
    executables = create_executables(config, mesh, states[0])
    for state, config.seed in zip(states, (0, 1, 0), strict=True):
        batch = parallel.shard(random_batch(program, 0), mesh)
        arguments = step_arguments(config, 0.1, mesh)
        _, metrics = executables.get(program)(state, batch, arguments)
        losses.append(float(metrics["loss"]))
    executables.close()
    assert losses[0] == losses[2] != losses[1]


def test_the_same_clips_give_the_same_step_on_one_device_and_on_eight():
    config = tiny.get_config()
    # Sub-batches of 16 clips span two devices of eight clips each.
    program = Program("train", 64, 4, 32, sub_batch=16)
    results = []
    for devices in (1, 8):
        mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
        state = create_state(config, mesh)
        executables = create_executables(config, mesh, state)
        batch = parallel.shard(random_batch(program, 0), mesh)
        arguments = step_arguments(config, 0.1, mesh)
        state, metrics = executables.get(program)(state, batch, arguments)
        executables.close()
        results.append((metrics, state))
    (one, state_one), (eight, state_eight) = results
    assert float(eight["loss"]) == pytest.approx(float(one["loss"]), rel=1e-6)
    for name in ("params", "batch_stats"):
        leaves = (
            jax.tree.leaves(getattr(state_one, name)),
            jax.tree.leaves(getattr(state_eight, name)),
        )
        for a, b in zip(*leaves, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
