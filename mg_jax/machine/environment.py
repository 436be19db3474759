"""What libraries find in the environment when they are imported, and how Python runs them."""

import gc
import os

DEFAULTS = {
    # Only what a user can act on; most lines of TensorFlow are about its own affairs.
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Keras, which nothing here uses, is a third of the time that importing TensorFlow takes; its
    # legacy version is left out where it is not installed.
    "TF_USE_LEGACY_KERAS": "1",
}

# Loops that LLVM has not unrolled compile in four fifths of the time and run as fast.
_EXTRA_OPTIONS = "--xla_backend_extra_options"
XLA_FLAG = f"{_EXTRA_OPTIONS}=xla_cpu_disable_loop_unrolling"


def set_defaults() -> None:
    """Sets what the user has not set; to be called before the libraries are imported."""
    collect_garbage_rarely()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    if _EXTRA_OPTIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {XLA_FLAG}".strip()


def collect_garbage_rarely() -> None:
    """Makes Python look for cycles of garbage less often, by a factor of 25 to 700.

    Importing the libraries and tracing networks make millions of objects that stay, and looking
    through them over and over takes its time. CPU seconds with Python's defaults, like this and
    without looking at all: 4.9, 4.4 and 4.0 for imports, 4.7, 4.0 and 3.8 for tracing and lowering
    SlowFast-R50's step (Python 3.11). What is in no cycle is freed at once all the same.
    """
    gc.set_threshold(50_000, 20, 50)
