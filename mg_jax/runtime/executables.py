"""The compiled programs of a run, one for each distinct grid and purpose."""

import concurrent.futures
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Iterable

import jax

from mg_jax.errors import UserError
from mg_jax.runtime import memory, program_cache


@dataclasses.dataclass(frozen=True)
class Program:
    """Key of an executable: what it does and the shapes it is compiled for.

    Attributes:
      kind: train, statistics (of precise BN) or views (of test videos).
      batch: clips, or test videos, over all devices.
      frames: of a clip.
      size: height and width of the frames, pixels.
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
        sub_batch = f", sub-batch {self.sub_batch}" if self.sub_batch else ""
        return f"{self.kind} on {self.batch} x {views}{self.frames} x {self.size}^2{sub_batch}"


class Executables:
    """Compiled programs, one for each distinct key, each compiled once.

    They compile in a background thread, in the order in which they are asked for. While one
    compiles, another thread lowers the next: Python takes one core, and XLA's compiler does not
    fill the others.

    Attributes:
      stall_s: seconds that callers waited for the compiler.
      compiled: keys in the order in which their turn to be compiled came.
    """

    def __init__(
        self,
        lower: Callable[[Program], Callable[[], tuple[jax.stages.Compiled, bool]]],
        memory_bytes: int | None = None,
    ):
        """Nothing is compiled yet.

        Args:
          lower: lowers the program of a key, if it has to be compiled; what it returns gives the
            program, and whether it was found on disk.
          memory_bytes: of each device, None for no limit; a program that needs more is an error.
        """
        self.stall_s = 0.0
        self.compiled: list[Program] = []
        self._lower = lower
        self._memory_bytes = memory_bytes
        self._seconds: list[float] = []  # that each took, with what it waited to be lowered
        self._found: set[Program] = set()  # on disk
        self._futures: dict[Program, concurrent.futures.Future] = {}
        # Keys whose lowering has not begun, and at most one that is lowered and not yet compiled.
        self._waiting: dict[Program, None] = {}
        self._lowered: dict[Program, concurrent.futures.Future] = {}
        self._lock = threading.Lock()  # of these two
        # Two programs that compile at once take as long: XLA's compiler is itself parallel.
        self._lowering = concurrent.futures.ThreadPoolExecutor(1, "lowering")
        self._compiling = concurrent.futures.ThreadPoolExecutor(1, "compiling")
        self._closed = False

    def request(self, keys: Iterable[Program]) -> None:
        """Queues the programs that will be needed, in this order."""
        for key in keys:
            if key not in self._futures:
                with self._lock:
                    self._waiting[key] = None
                    self._lower_next()
                self._futures[key] = self._compiling.submit(self._compile, key)

    def ready(self, key: Program) -> bool:
        """Whether the program of `key` is compiled."""
        return key in self._futures and self._futures[key].done()

    @property
    def pending(self) -> int:
        """How many programs have been asked for and are not compiled."""
        return sum(not future.done() for future in self._futures.values())

    def format_left(self, count: int) -> str:
        """Text: the number of programs left and the estimated time to compile them."""
        each = statistics.fmean(self._seconds) if self._seconds else 0
        # Programs that come from the cache on disk take next to no time.
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

    @property
    def found(self) -> int:
        """How many programs came from the cache on disk."""
        return len(self._found)

    def format_origin(self, key: Program) -> str:
        """Text: whether a program that is ready was compiled or came from the cache on disk."""
        return program_cache.format_origin(key in self._found)

    def check(self) -> None:
        """Raises the error of a compilation that has failed, before its program is needed."""
        for future in self._futures.values():
            if future.done():
                future.result()

    def retain(self, needed: Iterable[Program]) -> None:
        """Frees all programs but those that are still needed."""
        with self._lock:
            for key in self._futures.keys() - set(needed):
                if self._futures[key].done() or self._futures[key].cancel():
                    del self._futures[key]
                    self._waiting.pop(key, None)
                    if key in self._lowered:
                        self._lowered.pop(key).cancel()
            self._lower_next()

    def close(self) -> None:
        """Cancels what is queued; what is being lowered or compiled ends by itself."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._lowered.clear()
        for thread in (self._lowering, self._compiling):
            thread.shutdown(wait=False, cancel_futures=True)

    def _lower_next(self) -> None:
        """Begins to lower the next program, if none waits that is lowered; with the lock."""
        if self._waiting and not self._lowered:
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._lowered[key] = self._lowering.submit(self._lower, key)

    def _compile(self, key: Program) -> jax.stages.Compiled:
        self.compiled.append(key)
        start = time.perf_counter()
        program, is_found = self._when_lowered(key)()
        self._seconds.append(time.perf_counter() - start)
        if is_found:
            self._found.add(key)
        needed = memory.needed_bytes(program)
        if self._memory_bytes is not None and needed > self._memory_bytes:
            raise UserError(
                f"{key} needs {needed / 1e9:.2f} GB of each device, which has "
                f"{self._memory_bytes / 1e9:.2f} GB; a smaller --config.batch needs less "
                "(--mode=plan names the largest that trains), so does "
                "--config.model.dtype=bfloat16 and, for training, --config.run.remat=True"
            )
        return program

    def _when_lowered(self, key: Program) -> Callable[[], tuple[jax.stages.Compiled, bool]]:
        """Waits until the first program in the queue is lowered, and begins to lower the second."""
        with self._lock:
            if self._closed:
                raise concurrent.futures.CancelledError
            lowered = self._lowered[key]
        try:
            compile_lowered = lowered.result()
        finally:
            with self._lock:
                self._lowered.pop(key, None)
                if not self._closed:
                    self._lower_next()
        if self._closed:
            raise concurrent.futures.CancelledError
        return compile_lowered
