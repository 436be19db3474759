"""Every module can be imported, those of rarely used commands too."""

import importlib
import pkgutil

import configs
import data
import mg_jax


def test_every_module_can_be_imported():
    names = [
        module.name
        for package in (configs, data, mg_jax)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 150
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name in ("torch", "onnx")  # which not everybody installs
