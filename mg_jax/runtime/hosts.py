"""The processes of a run, one to a host or to a GPU: how they agree, and part."""

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

from mg_jax.errors import UserError
from mg_jax.runtime import parallel

T = TypeVar("T")

# Seconds that a network file system may take to show one process's files to the others.
_SHARED_S = 20
# Bytes of the shortest message; longer ones double, since each length takes a program of its own.
_SHORTEST = 256


def is_first() -> bool:
    """Whether this is the process that prints and writes for all."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if is_first():
        print(text, flush=True)


def agree(decide: Callable[[], T]) -> T:
    """What the first process decides, on all processes; what it raises, all processes raise.

    For all that is read from a file system and acted on: a network file system may show processes
    different things at the same time.

    Args:
      decide: called on the first process alone; returns what JSON can hold.

    Raises:
      Exception: that of `decide`; on the other processes a UserError with its message.
    """
    if jax.process_count() == 1:
        return decide()
    error, answer = None, ""
    if is_first():
        try:
            answer = json.dumps({"decided": decide()})
        except Exception as raised:
            error, answer = raised, json.dumps({"error": _words(raised)})
    answer = json.loads(_gather(answer)[0])
    if error is not None:
        raise error
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["decided"]


def together(work: Callable[[], T]) -> T:
    """Does a piece of work on every process and waits for all; what one raises, all raise.

    Otherwise the others would wait for the one that failed.

    Raises:
      Exception: that of this process's work; where another one's failed, a UserError with its
        message and the number of the process.
    """
    if jax.process_count() == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
    messages = _gather("" if error is None else _words(error))
    if error is not None:
        raise error
    for process, message in enumerate(messages):
        if message:
            raise UserError(f"process {process}: {message}")
    return result


def check_same(parts: dict[str, str], advice: str) -> None:
    """Makes sure that all processes have the same texts.

    Args:
      parts: texts by what they describe, in words.
      advice: what to do where they differ.

    Raises:
      UserError: where they do, naming the processes and what differs, on all processes.
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
    """Makes sure that all processes have as many devices; each takes an equal part of a batch.

    Raises:
      UserError: where they do not, naming the counts, on all processes.
    """
    # Known to all since they met; collective calls need equal counts themselves.
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"process {i} has {counts[i]}" for i in sorted(counts))
        raise UserError(
            f"processes must have equally many devices; {listed}. Take as many on each host, for "
            "example with CUDA_VISIBLE_DEVICES=0,1,... where the others have fewer"
        )


def check_shared(folder: pathlib.Path) -> None:
    """Makes sure that all processes see the same folder, which exists on the first.

    Raises:
      UserError: where they do not.
    """
    if jax.process_count() == 1:
        return
    path = folder / agree(lambda: f".seen_by_all_{secrets.token_hex(8)}")
    agree(path.touch)
    seen = _gather("yes" if sees(path.exists) else "")
    if is_first():
        path.unlink()
    blind = ", ".join(str(process) for process, answer in enumerate(seen) if not answer)
    if blind:
        raise UserError(
            f"--workdir={folder} is another folder on process {blind} than on process 0; it must "
            "lie on a file system that all hosts share"
        )


def sees(condition: Callable[[], bool]) -> bool:
    """Whether what another process has written can be seen here, waiting for it a while."""
    patience = time.monotonic() + _SHARED_S
    while True:
        with contextlib.suppress(OSError):  # such as of a handle that has become stale
            if condition():
                return True
        if time.monotonic() > patience:
            return False
        time.sleep(0.1)


def total(count: int) -> int:
    """The sum of a number over the processes."""
    if jax.process_count() == 1:
        return count
    return int(multihost_utils.process_allgather(np.array(count)).sum())


def highest(number: int, mesh: Mesh) -> jax.Array:
    """The highest of the processes' numbers, to be read later; int32 on every device."""
    numbers_D = np.full(jax.local_device_count(), number, np.int32)
    return _highest(parallel.shard(numbers_D, mesh), mesh)


@partial(jax.jit, static_argnums=1)
def _highest(numbers_D: jax.Array, mesh: Mesh) -> jax.Array:
    sharding = NamedSharding(mesh, parallel.REPLICATED)
    return lax.with_sharding_constraint(jnp.max(numbers_D), sharding)


def part(status: int = 0) -> NoReturn:
    """Ends the process in good order, as all processes do."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Else Python waits for the compiler.
    os._exit(status)


def leave(message: str, status: int = 1) -> NoReturn:
    """Prints a message and ends the process at once.

    The orderly way waits for the compiler, and for minutes for processes that may not come.
    """
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def _gather(text: str) -> list[str]:
    """The texts of all processes, by their numbers."""
    # As JSON, since names of files that are not UTF-8 cannot be encoded otherwise.
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


def _words(error: Exception) -> str:
    """What an error says, or what it is."""
    return str(error) or type(error).__name__
