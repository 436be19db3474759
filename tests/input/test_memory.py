"""The memory of a process and its readers over a long time of reading."""

import dataclasses

import psutil
import pytest

from configs.demo import get_config
from mg_jax.bench.supply import resident_bytes
from mg_jax.input.datasets import open_source
from mg_jax.input.pipeline import clip_batches
from mg_jax.input.readers import Readers
from mg_jax.input.sampling import training_augmentation
from mg_jax.recipe import schedule_from_config


@pytest.mark.nightly
def test_resident_memory_stays_flat_over_ten_thousand_batches_of_all_grids(data_dir):
    config = get_config()
    config.data.dir = str(data_dir)
    readers = Readers(2)
    split = dataclasses.replace(open_source(config).train, readers=readers)
    grids = [
        dataclasses.replace(grid, batch=4) for grid in schedule_from_config(config).grids_from(0)
    ]
    positions = ((grids[i % len(grids)], 4 * i) for i in range(10_000))
    augmentation = training_augmentation(config.data, config.seed)
    megabytes = []
    for i, _ in enumerate(clip_batches(split, augmentation, grids, positions).as_numpy_iterator()):
        if (i + 1) % 1_000 == 0:
            megabytes.append(resident_bytes() / 1e6)
    assert {child.pid for child in psutil.Process().children()} >= set(readers.pids)
    assert max(megabytes) <= 1.01 * megabytes[0], megabytes
