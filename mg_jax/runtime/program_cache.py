"""Where compiled programs are kept between runs: JAX's persistent cache."""

import pathlib
import threading

import jax

from mg_jax.runtime import hosts

_HIT = "/jax/compilation_cache/cache_hits"
_WRITTEN = "/jax/compilation_cache/cache_misses"  # JAX says so when it writes what it missed
_counts = threading.local()


def _listen(event: str, **_) -> None:
    if event == _HIT:
        _counts.found = found_here() + 1
    elif event == _WRITTEN:
        _counts.written = written_here() + 1


jax.monitoring.register_event_listener(_listen)


def found_here() -> int:
    """How many programs this thread has found in the cache so far instead of compiling them."""
    return getattr(_counts, "found", 0)


def written_here() -> int:
    """How many programs this thread has compiled so far and written to the cache."""
    return getattr(_counts, "written", 0)


def format_origin(found: bool) -> str:
    """Text: that a program was found in the cache, or was compiled and why."""
    folder = jax.config.jax_compilation_cache_dir
    if folder is None or not jax.config.jax_enable_compilation_cache:
        return "was compiled; nothing is kept"
    if found:
        return f"came from {folder}"
    return f"was compiled; {folder} had none for this program, machine, XLA_FLAGS and JAX"


def cache_programs(folder: str | pathlib.Path, platform: str) -> None:
    """Makes JAX keep compiled programs in a folder, also between runs.

    On CPUs they serve wherever the folder lies and however many cores there are; on other machines
    or with other versions or XLA_FLAGS they do not.

    Args:
      folder: need not exist.
      platform: cpu, gpu or tpu.
    """
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(folder).expanduser()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if platform == "cpu":
        # What is for GPUs alone would make the folder's path a part of each program's key.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def cache_run_programs(
    folder: str, workdir: pathlib.Path, platform: str, *, writes_alone: bool
) -> None:
    """Makes JAX keep a run's programs; several processes on accelerators in their work directory.

    JAX lets process 0 alone write, and XLA's processes tune a program's kernels together and wait a
    day for one that does not take part. So they must all find a program, or none of them. In a
    folder of one host process 0 would find what the others do not; in one that several runs share,
    another run may write between two processes' looks. Tuning each for itself is no way out: with
    other kernels XLA may order collectives differently, and the processes wait for each other
    (github.com/openxla/xla/issues/7716). CPUs tune nothing, so there any folder will do.

    Args:
      folder: that the run is told to use, of this host alone perhaps.
      workdir: of the run, which all processes share.
      platform: cpu, gpu or tpu.
      writes_alone: whether no other run uses the work directory, since this one has locked it;
        without that several processes on accelerators keep nothing.
    """
    if jax.process_count() == 1 or platform == "cpu":
        cache_programs(folder, platform)
        return
    shared = workdir / "programs"
    if writes_alone and _looks_the_same(shared):
        cache_programs(shared, platform)
        return
    jax.config.update("jax_enable_compilation_cache", False)
    if writes_alone:
        hosts.print_once(
            f"not all processes see the same files in {shared}, so programs are compiled anew"
        )


def _looks_the_same(folder: pathlib.Path) -> bool:
    """Whether all processes see the same files; network file systems show changes late."""
    expected = hosts.on_first(lambda: _files(folder))
    return not hosts.total(not hosts.wait_until_visible(lambda: _files(folder) == expected))


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
