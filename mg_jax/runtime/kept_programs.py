"""Compiled programs on disk that the next start need not even trace.

JAX's persistent cache knows a program by what it is lowered to, and to trace and lower a network is
most of a warm start. Here it is known by what it is made from as well: its key, the settings, the
sources, the versions, the devices and XLA's flags. What is not known by these is lowered; the same
program of other settings or sources is there then.
"""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import pickle
import platform
import zlib
from collections.abc import Callable, Sequence

import jax
import psutil
from jax.experimental import serialize_executable

from mg_jax.machine.atomic_file import replaced
from mg_jax.runtime import program_cache
from mg_jax.runtime.xla_options import Options

_PACKAGE = pathlib.Path(__file__).parents[1]
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "dm-pix")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# When a process began and when a file was changed is known to about a second each.
_CLOCKS_DIFFER_S = 2
# Of JAX's configuration: where programs are kept, what is said, and platforms that are not used.
_NOT_IN_PROGRAMS = ("jax_compilation_cache", "jax_persistent_cache", "jax_log", "jax_platforms")


class KeptPrograms:
    """Programs in the folder `whole` of JAX's persistent cache.

    Without that cache nothing is kept, nor by several processes, which must all find a program or
    none. Once a source has changed under the running process, it is not known what it runs, and
    every program is lowered.
    """

    def __init__(
        self, made_from: str, devices: Sequence[jax.Device], options: Options | None = None
    ):
        """Finds out what else programs are made from.

        Args:
          made_from: settings and shapes of the state, as text.
          devices: that the programs run on, in order.
          options: of XLA.
        """
        self._devices, self._options = list(devices), options or None
        self._folder: pathlib.Path | None = None
        folder, alone = jax.config.jax_compilation_cache_dir, jax.process_count() == 1
        if folder is not None and jax.config.jax_enable_compilation_cache and alone:
            self._folder = pathlib.Path(folder) / "whole"
        self._compiled_by = f"{_surroundings(self._devices)}\n{options}"
        sources, self._changed = _sources()
        self._made_from = f"{made_from}\n{sources}\n{self._compiled_by}"

    def get(
        self, key: object, lower: Callable[[], jax.stages.Lowered]
    ) -> tuple[jax.stages.Compiled, bool]:
        """A program, and whether it was found on disk.

        Args:
          key: whose `repr` says all that tells it from the other programs that are made from this.
          lower: lowers it, if it is not known.
        """
        if self._folder is None:
            program, is_found, _ = self._compile(lower())
            return program, is_found
        known = self._folder / _digest(f"{key!r}\n{self._made_from}")
        if not self._changed and (program := self._load(_read(known).decode())) is not None:
            return program, True
        lowered = lower()
        # The text says nothing of arguments that are not used.
        arguments = f"{lowered.in_tree}\n{jax.tree.leaves(lowered.args_info)}\n{lowered.out_tree}"
        name = _digest(f"{lowered.as_text()}\n{arguments}\n{self._compiled_by}")
        program, is_found, is_there = self._load(name), True, True
        if program is None:
            program, is_found, is_written = self._compile(lowered)
            # Of a program that JAX's cache gave, XLA writes but a part, which fails when it is run
            # (jaxlib 0.10.2, CPU). What JAX has just written was compiled here.
            is_there = is_written and self._keep(name, program)
        if is_there and not self._changed:
            _write(known, name.encode())
        return program, is_found

    def _compile(self, lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool, bool]:
        """A program, whether JAX's cache had it, and whether it is there now, compiled here."""
        found, written = program_cache.found_here(), program_cache.written_here()
        program = lowered.compile(compiler_options=self._options)
        here = program_cache.found_here(), program_cache.written_here()
        return program, here[0] > found, here[1] > written

    def _load(self, name: str) -> jax.stages.Compiled | None:
        """The program of a file; None if it is not there, whole and of use."""
        checksum, content = (content := _read(self._folder / "programs" / name))[:64], content[64:]
        if not content or _digest(content) != checksum.decode():
            return None
        try:
            parts = pickle.loads(zlib.decompress(content))
            return serialize_executable.deserialize_and_load(
                *parts, execution_devices=self._devices
            )
        except Exception:  # whatever it is, the program can be compiled
            return None

    def _keep(self, name: str, program: jax.stages.Compiled) -> bool:
        """Writes a program, if it can be written; returns whether it is there now."""
        try:
            parts = pickle.dumps(serialize_executable.serialize(program))
        except (ValueError, TypeError, NotImplementedError, jax.errors.JaxRuntimeError):
            return False  # not on every platform
        content = zlib.compress(parts, 1)
        return _write(self._folder / "programs" / name, _digest(content).encode() + content)


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # not there, or the folder of an empty name
        return b""


def _write(path: pathlib.Path, content: bytes) -> bool:
    """Whether it could be written; a disk that is full takes nothing away but time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError:
        return False
    return True


@functools.cache
def _sources() -> tuple[str, bool]:
    """A digest of the package's sources, and whether one is younger than this process."""
    found, youngest = [], 0.0
    for path in sorted(_PACKAGE.rglob("*.py")):
        found.append(f"{path.relative_to(_PACKAGE)} {_digest(path.read_bytes())}")
        youngest = max(youngest, path.stat().st_mtime)
    began = psutil.Process().create_time() - _CLOCKS_DIFFER_S
    return _digest("\n".join(found)), youngest > began


def _surroundings(devices: Sequence[jax.Device]) -> str:
    """Versions, machine, devices and flags, as text."""
    settings = {
        name: value
        for name, value in jax.config.values.items()
        if not name.startswith(_NOT_IN_PROGRAMS)
    }
    return repr(
        (
            platform.python_version(),
            [(name, _version(name)) for name in _LIBRARIES],
            devices[0].client.platform_version,
            [(device.id, device.device_kind) for device in devices],
            _instructions() if devices[0].platform == "cpu" else None,
            [(name, os.environ.get(name)) for name in _FLAGS],
            sorted(settings.items()),
        )
    )


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _instructions() -> str:
    """What the CPU can do; a program with instructions that another one lacks would crash there."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return line
    return platform.processor()
