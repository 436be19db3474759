"""One of two processes of a run that tries in turn how they agree: prints a JSON object.

    python -m tests.agreeing PORT PROCESS FOLDER DATA_DIR CACHE

FOLDER holds the other data set and the two files of weights that process 1 is given, and the work
directory `whole`, of which process 1 sees an earlier state, as on a file system that lags, until it
has looked for the checkpoints and waits for them.
"""

import json
import os
import pathlib
import sys

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from mg_jax.machine import environment
from mg_jax.runtime import hosts, program_cache
from mg_jax.runtime.meeting import connect
from mg_jax.runtime.stops import Stops
from tests import tiny


def said(function):
    """What a call returns, or the error it ends with."""
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def fail(process, where=""):
    """Fails on one of the processes."""
    if hosts.is_first() == (process == 0):
        raise LookupError(f"on {process}{where}")
    return "went well"


def talk(process, folder):
    """The pieces, one by one."""
    return {
        "decided": said(lambda: hosts.on_first(lambda: {"of": process, "text": "ü" * 300})),
        "refused": said(lambda: hosts.on_first(lambda: fail(process))),
        "not UTF-8": said(lambda: hosts.on_all(lambda: fail(1, os.fsdecode(b"caf\xe9")))),
        "together": said(lambda: hosts.on_all(lambda: process)),
        "first failed": said(lambda: hosts.on_all(lambda: fail(0))),
        "second failed": said(lambda: hosts.on_all(lambda: fail(1))),
        "same": said(lambda: hosts.check_same({"a": "1", "b": "2"}, "Mend it")),
        "other": said(lambda: hosts.check_same({"a": "1", "b": str(process)}, "Mend it")),
        "more": said(lambda: hosts.check_same({"a": "1", "c": "3"} if process else {"a": "2"}, "")),
        "shared": said(lambda: hosts.check_shared(folder)),
    }


def keep_programs(process, folder):
    """Files of programs kept where each process has a folder of its own, and what all then use.

    On CPUs such folders are used; on GPUs not, whether all see the same work directory or not.
    """
    own, workdir, found = folder / f"own{process}", folder / "kept", {}

    def compile_one(platform):
        program_cache.cache_run_programs(str(own), workdir, platform, writes_alone=True)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        compilation_cache.reset_cache()  # JAX looks at the folder's name once

        def plus_one(x):
            return x + 1

        jax.jit(plus_one).lower(np.zeros(3)).compile()
        folders = own, workdir / "programs"
        return [len(list(path.glob("jit_plus_one-*-cache"))) for path in folders]

    found["cpu"] = compile_one("cpu")
    found["gpu"] = compile_one("gpu")
    hosts.on_first(lambda: None)  # both have looked
    files, patience_s, hosts._SHARED_S = program_cache._files, hosts._SHARED_S, 0
    if process == 1:
        program_cache._files = lambda folder: ["of another time"]
    found["unlike"] = compile_one("gpu")
    program_cache._files, hosts._SHARED_S = files, patience_s
    found["off"] = not jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()
    return {"programs": found}


def lag(folder):
    """Makes `folder / "seen"` show `before` until something has been missed there, then `whole`.

    Returns:
      The work directory that is seen, and a list that grows with each look that missed something.
    """
    seen, later, missed, sees = folder / "seen", folder / "seen_later", [], hosts.wait_until_visible
    seen.symlink_to(folder / "before")
    later.symlink_to(folder / "whole")

    def sees_late(condition):
        def look():
            found = condition()
            if not found:
                missed.append(condition)
                files = [path.name for path in (folder / "whole").glob(".seen_by_all_*")]
                # By their file processes know that they share a folder; checkpoints come later.
                if files:
                    (seen / files[0]).touch()
                else:
                    later.replace(seen)
            return found

        return sees(look)

    hosts.wait_until_visible = sees_late
    return seen, missed


def open_sessions(process, folder, data_dir, cache):
    """Runs of which process 1 has something else than process 0."""
    from mg_jax.training.loop import train
    from mg_jax.training.session import open_session

    def config(**changed):
        config = tiny.get_config()
        config.update_from_flattened_dict({"data.dir": data_dir, "run.cache_dir": cache, **changed})
        return config

    def opened(name, **changed):
        return said(lambda: open_session(config(**changed), folder / name, Stops(), trains=True)[0])

    lagging, missed = lag(folder) if process == 1 else (folder / "whole", [])
    return {
        "settings": opened("none", **{"seed": process, "batch": 8 + 8 * process}),
        "data": opened("none", **{"data.dir": str(folder / "data") if process else data_dir}),
        "no data": opened("none", **{"data.dir": str(folder / "none") if process else data_dir}),
        "weights": opened("none_yet", init_from=str(folder / f"{process}.safetensors")),
        "lagging": said(lambda: train(config(), lagging, Stops())),
        "missed": len(missed),
    }


if __name__ == "__main__":
    _, port, number, folder, data_dir, cache = sys.argv
    environment.set_defaults()
    process, folder = int(number), pathlib.Path(folder)
    connect(f"localhost:{port}", 2, process)
    devices = said(hosts.check_device_counts)
    print(json.dumps({"devices": devices}))
    if devices is None:
        print(json.dumps(talk(process, folder)))
        print(json.dumps(keep_programs(process, folder)))
        print(json.dumps(open_sessions(process, folder, data_dir, cache)))
    hosts.exit_together(0)
