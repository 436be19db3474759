"""What batches that wait on the devices take."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mg_jax.input.sampling import all_views
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.tools.plan_memory import ahead_bytes
from mg_jax.training.programs import statistics_program, train_program, views_program
from tests import tiny


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:2]), (parallel.AXIS,))


def clip_bytes(grid):
    return grid.frames * grid.size**2 * 3


def test_two_batches_wait_and_those_of_training_also_while_it_evaluates(mesh):
    config = tiny.get_config()
    grids = list(schedule_from_config(config).grids_from(0))
    largest = max(grid.batch * clip_bytes(grid) for grid in grids)
    for grid in grids:
        ahead = ahead_bytes(config, mesh, train_program(grid))
        # A label and a flip come with each clip.
        assert ahead == pytest.approx(2 * grid.batch * (clip_bytes(grid) + 5) // 2)
        evaluating = ahead_bytes(config, mesh, statistics_program(grid))
        assert evaluating - ahead == pytest.approx(largest, rel=0.01)
    views = all_views(config)
    program = views_program(config, views, mesh)
    own = program.batch * (len(views) * views.frames * views.size**2 * 3 + 4)
    assert ahead_bytes(config, mesh, program) - own == pytest.approx(largest, rel=0.01)
