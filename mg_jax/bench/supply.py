"""What the input costs, and how many cores feed devices of a given speed."""

import dataclasses
import pathlib
import time
from typing import Any

import psutil

from mg_jax.grid import Grid
from mg_jax.input.datasets import Split
from mg_jax.input.pipeline import clip_batches
from mg_jax.input.readers import Readers
from mg_jax.input.sampling import Augmentation

# Batches: the first ones open files and start readers, the last ones keep readers busy until the
# measurement ends.
_WARM_UP, _COUNTED, _AFTER = 4, 16, 4


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of reading clips of a grid.

    Attributes:
      clips_per_s: through the whole pipeline.
      main_cpu_s: of the process that trains, for a clip in a batch of the grid's size; it does
        nothing for a clip, but something for each batch, and 5 us for each task of readers.
      reader_cpu_s: of all readers together, for a clip.
      read_bytes: from disk or its cache, for a clip.
    """

    clips_per_s: float
    main_cpu_s: float
    reader_cpu_s: float
    read_bytes: float

    @property
    def cpu_s(self) -> float:
        """Of all processes."""
        return self.main_cpu_s + self.reader_cpu_s


def measure_cost(
    split: Split, augmentation: Augmentation, grid: Grid, clips: int, readers: Readers
) -> Cost:
    """Reads about so many clips of a grid in small batches, with given readers."""
    batch = max(clips // _COUNTED, 1)
    small = dataclasses.replace(grid, batch=batch)
    iterations = ((small, i * batch) for i in range(_WARM_UP + _COUNTED + _AFTER))
    split = dataclasses.replace(split, readers=readers)
    batches = clip_batches(split, augmentation, [small], iterations).as_numpy_iterator()
    for _ in range(_WARM_UP):
        next(batches)
    before = _spent(readers)
    count = sum(len(next(batches)["label"]) for _ in range(_COUNTED))
    seconds, main_s, reader_s, read = (b - a for a, b in zip(before, _spent(readers), strict=True))
    return Cost(count / seconds, main_s / _COUNTED / grid.batch, reader_s / count, read / count)


def _spent(readers: Readers) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds of this process and of readers, and bytes that readers have read."""
    processes = [psutil.Process(pid) for pid in readers.pids]
    times = [process.cpu_times() for process in processes]
    return (
        time.perf_counter(),
        time.process_time(),
        sum(t.user + t.system for t in times),
        sum(_bytes_read(process.pid) for process in processes),
    )


def _bytes_read(pid: int) -> int:
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def resident_bytes() -> int:
    """Resident memory of this process and its children; what they share counts in each."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True)))


def add_needs(rows: list[dict[str, Any]], clips_per_s: float, cores: int) -> None:
    """Adds to each grid what devices ask of it, and whether so many cores can give it.

    Args:
      rows: `grid`, `main_cpu_s` and `reader_cpu_s` of each grid, the base grid first.
      clips_per_s: what the devices take of the base grid. An iteration takes them as long on any
        other, so they take more clips there as the batch is larger.
      cores: that the input may use.
    """
    for row in rows:
        rate = clips_per_s * row["grid"]["batch"] / rows[0]["grid"]["batch"]
        row["needed_clips_per_s"] = rate
        row["needed_cores"] = rate * (row["main_cpu_s"] + row["reader_cpu_s"])
        # All of one process's work runs on one core at a time.
        row["starves"] = row["needed_cores"] > cores or rate * row["main_cpu_s"] > 1


def format_supply(rows: list[dict[str, Any]], cores: int) -> str:
    """A table of costs, and where they were added, of needs."""
    counts = list(rows[0]["by_readers"])
    head = f"{'frames x size^2':<16} {'main ms':>8} {'reader ms':>10} {'main <=':>9}"
    head += "".join(f" {f'{n} reader' + 's' * (int(n) > 1):>10}" for n in counts)
    needs = "needed_cores" in rows[0]
    if needs:
        head += f" {'needed':>9} {'cores':>7}"
    lines = [head]
    for row in rows:
        line = f"{row['grid']['frames']} x {row['grid']['size']}^2".ljust(16)
        line += f" {row['main_cpu_s'] * 1e3:>8.3f} {row['reader_cpu_s'] * 1e3:>10.2f}"
        line += f" {1 / max(row['main_cpu_s'], 1e-9):>9,.0f}"
        line += "".join(f" {row['by_readers'][n]:>10,.1f}" for n in counts)
        if needs:
            line += f" {row['needed_clips_per_s']:>9,.0f} {row['needed_cores']:>7.1f}"
            line += f"  starves on {cores} cores" if row["starves"] else ""
        lines.append(line)
    lines.append("CPU of a clip in ms; clips/s that one main process can pass on, and measured")
    return "\n".join(lines)
