import contextlib
import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mg_jax.input.datasets import open_source
from mg_jax.input.pipeline import clip_batches, view_batches
from mg_jax.input.sampling import evaluation_views, training_augmentation
from mg_jax.metrics import multi_label_metrics
from mg_jax.models import create_model
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel, xla_options
from mg_jax.runtime.stops import Stops
from mg_jax.training.evaluation import evaluate, precise_batch_stats
from mg_jax.training.preprocess import normalize
from mg_jax.training.programs import create_executables
from mg_jax.training.session import Clocks, Session
from mg_jax.training.state import create_state
from mg_jax.training.upcoming import evaluation_steps
from mg_jax.workdir.checkpoint import Checkpoints
from mg_jax.workdir.trained_on import TrainedOn
from tests import tiny


@pytest.fixture(scope="module")
def opened(data_dir, tmp_path_factory):
    """A run on two devices, and a state whose classes get different scores."""
    config = tiny.get_config()
    config.model.name = "i3d"
    config.data.dir = str(data_dir)
    mesh = Mesh(np.array(jax.devices()[:2]), (parallel.AXIS,))
    state = create_state(config, mesh)
    rng = np.random.default_rng(0)
    # A fresh network gives every class the same score; spread the last layer's weights.
    shape = state.params["head"]["projection"]["kernel"].shape
    head = {"projection": {"kernel": rng.normal(size=shape), "bias": np.zeros(4)}}
    head = jax.tree.map(lambda x: x.astype(np.float32), head)
    state = state.replace(params=parallel.replicate({**state.params, "head": head}, mesh))
    folder = tmp_path_factory.mktemp("run")
    closed = contextlib.ExitStack()
    checkpoints = Checkpoints(folder, keep=1, read_only=False)
    closed.callback(checkpoints.close)
    executables = create_executables(config, mesh, state)
    closed.callback(executables.close)
    session = Session(
        config=config,
        workdir=folder,
        schedule=schedule_from_config(config),
        mesh=mesh,
        data=open_source(config),
        executables=executables,
        checkpoints=checkpoints,
        clocks=Clocks(),
        stops=Stops(),
        opened=closed,
        trained_on=TrainedOn(),
    )
    yield session, state
    session.close()


def test_precise_statistics_are_the_mean_over_batches_with_the_current_parameters(opened):
    session, state = opened
    config, data = session.config, session.data
    grid = session.schedule.phases[-1].grids[-1]
    found = precise_batch_stats(session, state, grid)
    batches = clip_batches(
        data.train,
        training_augmentation(config.data, config.seed + 1),
        [grid],
        ((grid, i * grid.batch) for i in range(config.eval.precise_bn_batches)),
    )
    model = create_model(config.model, train=True, sub_batch=grid.sub_batch, momentum=0.0)
    apply = jax.jit(
        partial(model.apply, mutable="batch_stats"), compiler_options=xla_options.for_once("cpu")
    )
    stats = []
    for batch in batches.as_numpy_iterator():
        clips = np.where(
            batch["flip"][:, None, None, None, None], batch["clips"][:, :, :, ::-1], batch["clips"]
        )
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        rngs = {"dropout": jax.random.key(9)}
        _, updated = apply(variables, normalize(clips, config.data), rngs=rngs)
        stats.append(updated["batch_stats"])
    expected = jax.tree.map(lambda *s: np.mean(s, 0), *stats)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (3, 3)])
def test_metrics_average_the_softmax_over_views_and_count_each_video_once(opened, clips, crops):
    session, state = opened
    config, data = session.config, session.data
    stats = precise_batch_stats(session, state, session.schedule.phases[-1].grids[-1])
    found = evaluate(
        session, state.replace(batch_stats=stats), evaluation_views(config, clips, crops)
    )
    apply = jax.jit(
        create_model(config.model, train=False).apply, compiler_options=xla_options.for_once("cpu")
    )
    views = evaluation_views(config, clips, crops)
    videos = view_batches(data.evaluation, views, batch=1)
    scores = []
    for video in videos.as_numpy_iterator():
        logits = apply(
            {"params": state.params, "batch_stats": stats},
            normalize(video["clips"][0], config.data),
        )
        scores.append(jax.nn.softmax(logits).mean(0))
    labels = data.evaluation.videos.label(np.arange(11))
    assert len(scores) == len(labels) == 11
    scores = np.array(scores)
    assert found["top1"] == pytest.approx((scores.argmax(1) == labels).mean())
    assert found["top5"] == 1
    expected = -np.log(scores[np.arange(11), labels]).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("iterations", "times"), [(100, 1), (451, 2), (32_686, 40), (7, 7)])
def test_evaluations_spread_over_the_run_and_end_with_it(iterations, times):
    steps = sorted(evaluation_steps(iterations, times))
    assert len(steps) == times
    assert steps[-1] == iterations
    gaps = np.diff([0, *steps])
    assert gaps.max() - gaps.min() <= 1


def test_more_evaluations_than_iterations_are_one_after_each():
    # So many would never end if each were looked at.
    assert evaluation_steps(5, 10**15) == {1, 2, 3, 4, 5}


def test_with_several_labels_scores_are_the_maximum_over_views_of_sigmoids(opened):
    session, state = opened
    config = session.config.copy_and_resolve_references()
    config.data.multi_label = True
    data = dataclasses.replace(
        session.data, evaluation=dataclasses.replace(session.data.evaluation, multi_label=True)
    )
    executables = create_executables(config, session.mesh, state)
    multi = dataclasses.replace(session, config=config, data=data, executables=executables)
    stats = precise_batch_stats(session, state, session.schedule.phases[-1].grids[-1])
    found = evaluate(multi, state.replace(batch_stats=stats), evaluation_views(config, 3, 1))
    apply = jax.jit(
        create_model(config.model, train=False).apply, compiler_options=xla_options.for_once("cpu")
    )
    split = data.evaluation
    scores = []
    for video in view_batches(split, evaluation_views(config, 3, 1), batch=1).as_numpy_iterator():
        variables = {"params": state.params, "batch_stats": stats}
        logits_VK = apply(variables, normalize(video["clips"][0], config.data))
        scores.append(jax.nn.sigmoid(logits_VK).max(0))
    expected = multi_label_metrics(np.array(scores), split.videos.labels(np.arange(11)))
    assert found["map"] == pytest.approx(expected["map"], rel=1e-4)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    executables.close()
