"""The processes of a run, one per host or per GPU: shared decisions, checks, and exit."""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from mg_jax.errors import UserError, text_of
from mg_jax.runtime import parallel

T = TypeVar("T")

# Seconds that a network file system may take to show one process's files to the others.
_SHARED_S = 20
# Bytes of the shortest message; longer ones are padded to powers of two, since each length compiles
# a program of its own.
_SHORTEST = 256


def is_first() -> bool:
    """Whether this is process 0, which prints and writes for all."""
    return jax.process_index() == 0


def print_once(text: str) -> None:
    """Prints a line on the first process only."""
    if is_first():
        print(text, flush=True)


def on_first(work: Callable[[], T]) -> T:
    """Calls a function on the first process and returns its result on all of them.

    For whatever is read from a file system and acted on: a network file system may show processes
    different contents at the same time.

    Args:
      work: called on the first process only; returns what JSON can represent.

    Raises:
      Exception: that of `work`; on the other processes a UserError with its message.
    """
    if jax.process_count() == 1:
        return work()
    error, answer = None, ""
    if is_first():
        try:
            answer = json.dumps({"result": work()})
        except Exception as raised:
            error, answer = raised, json.dumps({"error": text_of(raised)})
    answer = json.loads(_gather(answer)[0])
    if error is not None:
        raise error
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["result"]


def on_all(work: Callable[[], T]) -> T:
    """Calls a function on every process and returns its own result on each; if one fails, all fail.

    Otherwise the others would wait forever for the one that failed.

    Raises:
      Exception: that of `work` on this process; if it failed on another one, a UserError with its
        message and the index of the process.
    """
    if jax.process_count() == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
    messages = _gather("" if error is None else text_of(error))
    if error is not None:
        raise error
    for process, message in enumerate(messages):
        if message:
            raise UserError(f"process {process}: {message}")
    return result


def check_same(parts: dict[str, str], advice: str) -> None:
    """Checks that all processes have the same texts.

    Args:
      parts: texts by a name for people, which an error shows.
      advice: what to do if they differ.

    Raises:
      UserError: if they differ, naming the processes and the texts; on all processes.
    """
    if jax.process_count() == 1:
        return
    digests = {part: hashlib.sha256(text.encode()).hexdigest() for part, text in parts.items()}
    first, *others = map(json.loads, _gather(json.dumps(digests)))
    differing: dict[str, list[int]] = {}
    for process, found in enumerate(others, 1):
        parts_here = [part for part in {**first, **found} if first.get(part) != found.get(part)]
        if parts_here:
            differing.setdefault(", ".join(parts_here), []).append(process)
    if differing:
        listed = "; ".join(
            f"process {', '.join(map(str, processes))} differs from process 0 in {what}"
            for what, processes in differing.items()
        )
        raise UserError(f"{listed}. {advice}")


def check_device_counts() -> None:
    """Checks that all processes have equally many devices; each takes an equal part of a batch.

    Raises:
      UserError: if they have not, naming the counts; on all processes.
    """
    # Every process knows all devices; collective calls would need equal counts themselves.
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"process {i} has {counts[i]}" for i in sorted(counts))
        raise UserError(
            f"processes must have equally many devices; {listed}. Take as many on each host, for "
            "example with CUDA_VISIBLE_DEVICES=0,1,... where the others have fewer"
        )


def check_shared(folder: pathlib.Path) -> None:
    """Checks that all processes see the same folder, which exists on the first.

    Raises:
      UserError: naming the processes that see another one; on all processes.
    """
    if jax.process_count() == 1:
        return
    path = folder / on_first(lambda: f".seen_by_all_{secrets.token_hex(8)}")
    on_first(path.touch)
    seen = _gather("yes" if wait_until_visible(path.exists) else "")
    if is_first():
        path.unlink()
    blind = ", ".join(str(process) for process, answer in enumerate(seen) if not answer)
    if blind:
        raise UserError(
            f"--workdir={folder} is another folder on process {blind} than on process 0; it must "
            "lie on a file system that all hosts share"
        )


def wait_until_visible(condition: Callable[[], bool]) -> bool:
    """Waits up to 20 s for what another process has written to be seen by this one.

    Args:
      condition: whether it is seen.

    Returns:
      False if it is not seen by then.
    """
    deadline = time.monotonic() + _SHARED_S
    while True:
        with contextlib.suppress(OSError):  # such as a stale file handle
            if condition():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def total(count: int) -> int:
    """The sum of a count over all processes."""
    if jax.process_count() == 1:
        return count
    return int(multihost_utils.process_allgather(np.array(count)).sum())


def highest(number: int, mesh: Mesh) -> jax.Array:
    """The highest of the processes' numbers, int32 on every device; does not wait for it."""
    numbers_D = np.full(jax.local_device_count(), number, np.int32)
    return _highest(parallel.shard(numbers_D, mesh), mesh)


@partial(jax.jit, static_argnums=1)
def _highest(numbers_D: jax.Array, mesh: Mesh) -> jax.Array:
    sharding = NamedSharding(mesh, parallel.REPLICATED)
    return lax.with_sharding_constraint(jnp.max(numbers_D), sharding)


def exit_together(status: int) -> NoReturn:
    """Ends this process after disconnecting from the others, which all call this too."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Otherwise Python would wait for the compiler's thread.
    os._exit(status)


def exit_now(message: str, status: int = 1) -> NoReturn:
    """Prints a message and ends this process at once, whatever the others do.

    A regular exit would wait for the compiler's thread, and minutes for processes that may be gone.
    """
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def _gather(text: str) -> list[str]:
    """The texts of all processes, in the order of their indices."""
    # As JSON, since file names that are not UTF-8 cannot be encoded otherwise.
    encoded = json.dumps(text).encode() if text else b""
    longest = int(multihost_utils.process_allgather(np.array(len(encoded))).max())
    size = max(_SHORTEST, 1 << (longest - 1).bit_length()) if longest else 0
    if not size:
        return [""] * jax.process_count()
    content = np.zeros(size, np.uint8)
    content[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    gathered = multihost_utils.process_allgather(content)
    texts = [row.tobytes().rstrip(b"\0").decode() for row in gathered]
    return [json.loads(text) if text else "" for text in texts]
