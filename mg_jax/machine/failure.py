"""Tells errors of the machine, which may pass, from those of what was read."""

import errno
import re
from collections.abc import Iterator

_OF_MACHINE = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
# As TensorStore writes an errno, in errors that are no OSError.
_ERRNO = re.compile(r"os_error_code='(\d+)'|OS error (\d+)")
# As XLA writes that memory ran out.
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def is_of_machine(error: BaseException) -> bool:
    """Whether memory, a disk, a permission or a limit failed, and not the content of a file.

    Errors that led to this one count as well, since libraries wrap them.
    """
    return any(map(_is_of_machine, _with_causes(error)))


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_machine(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno in _OF_MACHINE
    text = str(error)
    numbers = {int(a or b) for a, b in _ERRNO.findall(text)}
    return _OUT_OF_MEMORY in text or bool(numbers & _OF_MACHINE)
