"""Programs for absent devices are compiled once for all tests."""

import hashlib
import pickle

import pytest


@pytest.fixture(scope="session")
def compile_once(once):
    """`compile_program`, whose results are kept for the other tests of all workers."""

    def compile_once(config, mesh, program):
        from mg_jax.accelerators.compilation import compile_program

        places = [(device.device_kind, device.process_index) for device in mesh.devices.flat]
        key = repr((config.to_json_best_effort(), places, program))

        def make(folder):
            folder.mkdir()
            (folder / "costs").write_bytes(pickle.dumps(compile_program(config, mesh, program)))

        folder = once(f"program_{hashlib.sha256(key.encode()).hexdigest()[:16]}", make)
        return pickle.loads((folder / "costs").read_bytes())

    return compile_once
