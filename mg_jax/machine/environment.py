"""What libraries are told through the environment, and Python itself, before they are imported."""

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
    """Makes Python look for cycles of garbage a hundredth as often.

    Importing the libraries and tracing networks make millions of objects that stay. Looking through
    them over and over took a fifth of both: 4.9 instead of 4.0 CPU seconds for imports, 4.6 instead
    of 3.7 for tracing and lowering SlowFast-R50's step (2 cores, Python 3.11); with this 4.4 and
    4.0. What is in no cycle is freed at once all the same.
    """
    gc.set_threshold(50_000, 20, 50)
