"""Whether a work directory's checkpoints belong to a config."""

import json

import pytest

from mg_jax.workdir.config import (
    WorkdirError,
    check_config,
    check_same_config,
    stored_config,
    write_config,
)
from tests import tiny


@pytest.fixture
def older(tmp_path):
    """A work directory of a run that knew neither `schedule.scale` nor `schedule.videos`."""
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    write_config(tmp_path, tiny.get_config(), ["a", "b"])
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    for name in ("scale", "videos"):
        del content["schedule"][name]
    path.write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("check", [check_config, check_same_config])
def test_what_a_stored_config_does_not_know_has_its_default(older, check):
    config = tiny.get_config()
    check(older, config)
    config.schedule.videos = 7
    check(older, config)
    config.schedule.scale = 0.5
    with pytest.raises(WorkdirError, match=r": schedule\.scale is 1\.0 there and 0\.5 here$"):
        check(older, config)


@pytest.mark.parametrize(("before", "now"), [(True, "background"), (False, "off")])
def test_a_run_from_when_compiling_ahead_was_yes_or_no_can_be_continued(older, before, now):
    path = older / "config.json"
    content = json.loads(path.read_text())
    content["run"]["compile_ahead"] = before
    path.write_text(json.dumps(content))
    check_config(older, tiny.get_config())
    assert stored_config(path).run.compile_ahead == now


@pytest.mark.parametrize("check", [check_config, check_same_config])
def test_what_only_the_stored_config_knows_is_named(older, check):
    path = older / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mixing": 3}))
    with pytest.raises(WorkdirError, match=r"mixing is 3 there and \(not set\) here$"):
        check(older, tiny.get_config())


@pytest.mark.parametrize("content", ["[]", "3", '{"batch": "many"}', '{"schedule": 1}'])
def test_a_file_that_is_no_config_is_named(older, content):
    (older / "config.json").write_text(content)
    with pytest.raises(WorkdirError, match=r"config\.json is not a run's config"):
        check_config(older, tiny.get_config())
