"""What libraries are told through the environment, before they are imported."""

import os

DEFAULTS = {
    # Only what a user can act on; most lines of TensorFlow are about its own affairs.
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Keras, which nothing here uses, is a third of the time that importing TensorFlow takes; its
    # legacy version is left out where it is not installed.
    "TF_USE_LEGACY_KERAS": "1",
}


def set_defaults() -> None:
    """Sets what the user has not set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
