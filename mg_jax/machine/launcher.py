"""The processes that a launcher has started, as its environment tells them."""

import dataclasses
import os
from collections.abc import Iterator

from mg_jax.errors import UserError

# Environment variables: the number of processes, and which of them this is.
_VARIABLES = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
}
_KUBERNETES = ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX")


@dataclasses.dataclass(frozen=True)
class Process:
    """One of several processes.

    Attributes:
      index: of this one, from 0.
      count: of all; None where it is not known, as in a pod, which is told its index alone.
    """

    index: int
    count: int | None

    def __str__(self) -> str:
        return f"process {self.index}" + (f" of {self.count}" if self.count else "")


def launched_process(count: int | None, index: int | None) -> Process | None:
    """Which process this is, by arguments or else by the environment; None if there are no others.

    Args:
      count: the number of processes, if it is given.
      index: of this one, likewise.

    Raises:
      UserError: for arguments that do not fit.
    """
    if (count, index) != (None, None):
        check_all_given({"num_processes": count, "process_id": index})
        check_index(count, index)
        return Process(index, count) if count > 1 else None
    for name, count in _counts():
        ranked = os.environ.get(_VARIABLES[name], "")
        if ranked.isdecimal():
            return Process(int(ranked), count)
    return Process(int(os.environ[_KUBERNETES[1]]), None) if _in_pod() else None


def check_all_given(values: dict[str, object]) -> None:
    """Checks that flags of which one needs the others are all given.

    Args:
      values: by the flags' names; None for one that is missing.

    Raises:
      UserError: naming those that are missing.
    """
    missing = [f"--{name}" for name, value in values.items() if value is None]
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    if missing and given:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            f"{given[0]} needs {'it' if len(missing) == 1 else 'them'}"
        )


def check_index(count: int, index: int) -> None:
    """Checks a number of processes and the index of one.

    Raises:
      UserError: naming what is allowed.
    """
    if count < 1:
        raise UserError(f"--num_processes={count} must be positive")
    if not 0 <= index < count:
        raise UserError(f"--process_id={index} must lie in 0 ... {count - 1}")


def launched_together() -> str | None:
    """The processes that a launcher has started, in words; None if there are no others."""
    for name, count in _counts():
        return f"the {count} processes of {name}"
    return "the pods of the Kubernetes Job" if _in_pod() else None


def _counts() -> Iterator[tuple[str, int]]:
    """The environment variables that tell of several processes, with their number."""
    for name in _VARIABLES:
        count = os.environ.get(name, "1")
        if count.isdecimal() and int(count) > 1:
            yield name, int(count)


def _in_pod() -> bool:
    return all(name in os.environ for name in _KUBERNETES)
