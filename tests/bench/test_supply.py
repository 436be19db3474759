"""How many cores feed devices of a given speed."""

import pytest

from configs.demo import get_config
from mg_jax.bench.supply import add_needs, format_supply, measure_cost, resident_bytes
from mg_jax.input.datasets import open_source
from mg_jax.input.readers import Readers
from mg_jax.input.sampling import training_augmentation
from mg_jax.recipe import schedule_from_config


def row(batch, main_cpu_s, reader_cpu_s):
    return {
        "grid": {"batch": batch, "frames": 8, "size": 112},
        "main_cpu_s": main_cpu_s,
        "reader_cpu_s": reader_cpu_s,
        "by_readers": {"1": 100.0, "2": 190.0},
    }


def test_a_coarse_grid_asks_for_as_many_more_clips_as_its_batch_is_larger():
    rows = [row(512, 1e-5, 8e-3), row(8192, 1e-5, 1e-3)]
    add_needs(rows, clips_per_s=480, cores=4)
    assert [r["needed_clips_per_s"] for r in rows] == [480, 7680]
    assert rows[0]["needed_cores"] == pytest.approx(480 * 8.01e-3)
    assert rows[1]["needed_cores"] == pytest.approx(7680 * 1.01e-3)
    assert [r["starves"] for r in rows] == [False, True]
    base, coarse = format_supply(rows, 4).splitlines()[1:3]
    assert "starves" not in base
    assert "starves on 4 cores" in coarse


def test_no_number_of_readers_feeds_more_than_one_process_can_pass_on():
    rows = [row(8, 1e-3, 1e-3)]
    add_needs(rows, clips_per_s=1_500, cores=128)
    assert rows[0]["starves"]


def test_the_cost_of_a_clip_is_the_readers_and_hardly_the_main_process(data_dir):
    config = get_config()
    config.data.dir = str(data_dir)
    split, readers = open_source(config).train, Readers(2)
    grid = next(schedule_from_config(config).grids_from(0))
    cost = measure_cost(split, training_augmentation(config.data, 0), grid, 4_000, readers)
    assert 0 < cost.main_cpu_s < cost.reader_cpu_s
    assert cost.read_bytes > 0
    assert resident_bytes() > 100e6
