"""Devices, our pmap, and the compiled programs by grid.

`jax.pmap` is in maintenance, its ahead-of-time executables cannot be called with several processes,
and its call costs 5.7 ms for a state of 500 leaves against 1.1 ms here (2 CPU devices, JAX 0.10.2).
"""

import concurrent.futures
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data.cores import usable_cores
from mg_jax import memory

AXIS = "batch"
REPLICATED = P()
SPLIT = P(AXIS)


def make_mesh() -> Mesh:
    """All devices along the one axis 'batch', those of a process side by side."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (AXIS,))


def device_names(mesh: Mesh) -> str:
    """How many devices there are and of what kind; of a CPU, on how many cores a process runs."""
    kinds = sorted({device.device_kind for device in mesh.devices.flat})
    cores = usable_cores()
    share = f", {cores} core{'s' * (cores > 1)}" if kinds == ["cpu"] else ""
    return f"{mesh.size} x {' and '.join(kinds)}{share}"


def pmap(
    step: Callable,
    mesh: Mesh,
    in_specs: tuple[P, ...],
    out_specs: tuple[P, ...] | P,
    donate: tuple[int, ...] = (),
) -> Callable:
    """Maps per-device code over the devices, as `jax.pmap` does, for any number of processes.

    Args:
      step: per-device code over the named axis 'batch'.
      mesh: the devices.
      in_specs: REPLICATED or SPLIT for each argument; a split argument's leading axis is cut into
        equal parts.
      out_specs: the same for the results. What is replicated must be equal on all devices.
      donate: arguments whose buffers the results may reuse.
    """
    # check_vma refuses axis_index_groups, which sub-batches across devices need.
    mapped = jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, donate_argnums=donate)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts equal copies of host arrays on every device; all processes have the same ones."""
    sharding = NamedSharding(mesh, REPLICATED)
    # device_put would compare them over all processes, each time.
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda _: np.asarray(x)), tree
    )


def shard(tree: Any, mesh: Mesh) -> Any:
    """Global arrays, split along their leading axis, from this process's rows."""
    sharding = NamedSharding(mesh, SPLIT)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def abstract(tree: Any, mesh: Mesh, spec: P) -> Any:
    """Shapes, dtypes and sharding of a tree, to compile for."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


@dataclasses.dataclass(frozen=True)
class Program:
    """Key of an executable: what it does and the shapes it is compiled for.

    Attributes:
      kind: train, statistics (of precise BN) or views (of test videos).
      batch: clips, or test videos, over all devices.
      frames: of a clip.
      size: pixels.
      sub_batch: clips that share batch-norm statistics; 0 for test videos.
      views: of each test video; 0 for clips.
    """

    kind: str
    batch: int
    frames: int
    size: int
    sub_batch: int = 0
    views: int = 0

    def __str__(self) -> str:
        views = f"{self.views} x " if self.views else ""
        return f"{self.kind} on {self.batch} x {views}{self.frames} x {self.size}^2"


class Executables:
    """Compiled programs, one for each distinct key, each compiled once.

    They compile in a background thread, in the order in which they are asked for.

    Attributes:
      stall_s: seconds that callers waited for the compiler.
      compiled: keys in the order in which their compilation began.
    """

    def __init__(
        self, lower: Callable[[Program], jax.stages.Lowered], memory_bytes: int | None = None
    ):
        """Takes the function that lowers the program of a key, and what a device's memory holds."""
        self.stall_s = 0.0
        self.compiled: list[Program] = []
        self._lower = lower
        self._memory_bytes = memory_bytes
        self._seconds: list[float] = []  # that each compilation took
        self._futures: dict[Program, concurrent.futures.Future] = {}
        # One at a time: XLA's compiler is itself parallel, and two took twice as long.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "compiler")

    def request(self, keys: Iterable[Program]) -> None:
        """Queues the programs that will be needed, in this order."""
        for key in keys:
            if key not in self._futures:
                self._futures[key] = self._thread.submit(self._compile, key)

    def ready(self, key: Program) -> bool:
        """Whether the program of `key` is compiled."""
        return key in self._futures and self._futures[key].done()

    @property
    def pending(self) -> int:
        """How many programs have been asked for and are not compiled."""
        return sum(not future.done() for future in self._futures.values())

    def format_left(self, count: int) -> str:
        """That so many programs are to be compiled, and how long, by their mean, it will take."""
        each = statistics.fmean(self._seconds) if self._seconds else 0
        # Where programs come from disk it is not worth a word.
        long = f", about {each:.0f} s each, {count * each:.0f} s in all" if each >= 0.5 else ""
        return f"; programs to go: {count}{long}"

    def get(
        self, key: Program, meanwhile: Callable[[], None] = lambda: None
    ) -> jax.stages.Compiled:
        """The program of `key`, waiting for its compilation if need be.

        Args:
          key: of the program.
          meanwhile: called now and then while it waits; may raise.
        """
        self.request([key])
        start = time.perf_counter()
        try:
            while not concurrent.futures.wait([self._futures[key]], timeout=0.5).done:
                meanwhile()
            return self._futures[key].result()
        finally:
            self.stall_s += time.perf_counter() - start

    def check(self) -> None:
        """Raises what has become of programs that cannot be compiled, before they are needed."""
        for future in self._futures.values():
            if future.done():
                future.result()

    def retain(self, needed: Iterable[Program]) -> None:
        """Frees all programs but those that are still needed."""
        for key in self._futures.keys() - set(needed):
            if self._futures[key].done() or self._futures[key].cancel():
                del self._futures[key]

    def close(self) -> None:
        """Drops what is queued; what has begun ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile(self, key: Program) -> jax.stages.Compiled:
        self.compiled.append(key)
        start = time.perf_counter()
        program = self._lower(key).compile()
        self._seconds.append(time.perf_counter() - start)
        needed = memory.needed_bytes(program)
        if self._memory_bytes is not None and needed > self._memory_bytes:
            raise ValueError(
                f"{key} needs {needed / 1e9:.2f} GB of each device, which has "
                f"{self._memory_bytes / 1e9:.2f} GB; a smaller --config.batch needs less "
                "(--mode=plan names the largest that trains), so does "
                "--config.model.dtype=bfloat16 and, for training, --config.run.remat=True"
            )
        return program
