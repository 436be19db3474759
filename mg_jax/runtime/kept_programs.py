"""Compiled programs on disk that the next start need not even trace.

JAX's persistent cache knows a program by what it is lowered to, and to trace and lower a network is
most of a warm start. Here it is known by what it is made from as well: its key, the settings, the
sources, the versions, the devices and XLA's flags. What these do not identify is lowered and then
looked up by its text, so that a changed comment costs a trace but no compilation.
"""

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

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# When this process began, less what a clock of a file system may be behind.
_BEGAN = psutil.Process().create_time() - 10
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_OF_ACCELERATORS = ("nvidia-", "jax-cuda", "jax-rocm", "libtpu")
_VARIABLES = ("FLAX_", "XLA_", "LIBTPU_")
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
            self._sources = _sources()
            self._made_from = f"{made_from}\n{self._sources}\n{self._compiled_by}"

    def lower(
        self, key: object, lower: Callable[[], jax.stages.Lowered]
    ) -> Callable[[], tuple[jax.stages.Compiled, bool]]:
        """Lowers a program that is not known by its key.

        Args:
          key: whose `repr` says all that tells it from the other programs that are made from this.
          lower: lowers it.

        Returns:
          What loads or compiles the program, and gives it and whether it was found, here or in
          JAX's cache.
        """
        if self._folder is None:
            lowered = lower()
            return lambda: self._compile(lowered)[:2]
        pointer = self._folder / _digest(f"{key!r}\n{self._made_from}")
        by_text = _read(pointer) if self._sources is not None else b""
        if self._is_there(by_text):
            return lambda: self._load_or_compile(by_text, pointer, lower)
        return self._find_by_text(pointer, lower())

    def _load_or_compile(
        self, by_text: bytes, pointer: pathlib.Path, lower: Callable[[], jax.stages.Lowered]
    ) -> tuple[jax.stages.Compiled, bool]:
        program = self._load(by_text)
        # What is damaged is lowered after all.
        return (program, True) if program is not None else self._find_by_text(pointer, lower())()

    def _find_by_text(
        self, pointer: pathlib.Path, lowered: jax.stages.Lowered
    ) -> Callable[[], tuple[jax.stages.Compiled, bool]]:
        """What finds or compiles a program that is lowered."""
        # The text says nothing of arguments that are not used.
        arguments = f"{lowered.in_tree}\n{jax.tree.leaves(lowered.args_info)}\n{lowered.out_tree}"
        by_text = _digest(f"{lowered.as_text()}\n{arguments}\n{self._compiled_by}").encode()

        def find_or_compile() -> tuple[jax.stages.Compiled, bool]:
            program, is_found, is_kept = self._load(by_text), True, True
            if program is None:
                program, is_found, is_written = self._compile(lowered)
                # Of a program that JAX's cache gave, XLA writes but a part, which fails when it is
                # run (jaxlib 0.10.2, CPU). What JAX has just written was compiled here.
                is_kept = is_written and self._keep(by_text, program)
            if is_kept and self._sources is not None and self._sources == _sources():
                _write(pointer, by_text)
            return program, is_found

        return find_or_compile

    def _compile(self, lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool, bool]:
        """A program, whether JAX's cache had it, and whether it is there now, compiled here."""
        found, written = program_cache.found_here(), program_cache.written_here()
        program = lowered.compile(compiler_options=self._options)
        here = program_cache.found_here(), program_cache.written_here()
        return program, here[0] > found, here[1] > written

    def _is_there(self, by_text: bytes) -> bool:
        is_digest = len(by_text) == _DIGITS and by_text.isalnum()
        return is_digest and self._program(by_text).is_file()

    def _load(self, by_text: bytes) -> jax.stages.Compiled | None:
        """The program of a text's digest; None if it is not there, whole and of use."""
        if not self._is_there(by_text):
            return None
        content = _read(self._program(by_text))
        checksum, packed = content[:_DIGITS], content[_DIGITS:]
        if _digest(packed).encode() != checksum:
            return None
        try:
            parts = pickle.loads(zlib.decompress(packed))
            return serialize_executable.deserialize_and_load(
                *parts, execution_devices=self._devices
            )
        except Exception:  # whatever it is, the program can be compiled
            return None

    def _keep(self, by_text: bytes, program: jax.stages.Compiled) -> bool:
        """Writes a program, if it can be written; returns whether it is there now."""
        try:
            packed = zlib.compress(pickle.dumps(serialize_executable.serialize(program)), 1)
        except Exception:  # not every platform's programs can be kept, but all can be run
            return False
        return _write(self._program(by_text), _digest(packed).encode() + packed)

    def _program(self, by_text: bytes) -> pathlib.Path:
        return self._folder / "programs" / by_text.decode("ascii", "replace")


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


_DIGITS = len(_digest(""))


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
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


def _sources() -> str | None:
    """A digest of the package's sources; None if one may have changed since the process began."""
    found = []
    try:
        for path in sorted(_PACKAGE.rglob("[!.]*.py")):
            status = path.stat()
            # A file that replaces another one may bring its old time along, but not of its inode.
            if max(status.st_mtime, status.st_ctime) > _BEGAN:
                return None
            found.append(f"{path.relative_to(_PACKAGE)} {_digest(path.read_bytes())}")
    except OSError:
        return None
    # Where packages are archives or have no sources, there are none to tell versions apart.
    return _digest("\n".join(found)) if found else None


def _surroundings(devices: Sequence[jax.Device]) -> str:
    """Versions, machine, devices and flags, as text."""
    on_cpu = devices[0].platform == "cpu"
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
            [(device, device.device_kind) for device in devices],
            _instructions() if on_cpu else _versions_of_accelerators(),
            sorted((n, v) for n, v in os.environ.items() if n.startswith(_VARIABLES)),
            sorted(settings.items()),
        )
    )


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions_of_accelerators() -> list[tuple[str, str]]:
    """Of the libraries and plugins whose kernels programs call."""
    installed = importlib.metadata.distributions()
    pairs = [(each.metadata["Name"].lower(), each.version) for each in installed]
    return sorted(pair for pair in pairs if pair[0].startswith(_OF_ACCELERATORS))


def _instructions() -> str:
    """What the CPU can do; a program with instructions that another one lacks would crash there."""
    lines = _read(pathlib.Path("/proc/cpuinfo")).decode(errors="replace").splitlines()
    flags = (line for line in lines if line.startswith(("flags", "Features")))
    return next(flags, platform.processor())
