"""Flags of commands that compile for absent accelerators."""

import sys

from absl import flags

from mg_jax.accelerators.devices import ACCELERATORS

GPU = flags.DEFINE_enum(
    "gpu",
    None,
    list(ACCELERATORS),
    "Compile for such an accelerator, which need not be there and is not opened if it is.",
)
GPUS = flags.DEFINE_integer("gpus", 1, "With --gpu: how many a host has.", lower_bound=1)
HOSTS = flags.DEFINE_integer("hosts", 1, "With --gpu: how many hosts.", lower_bound=1)


def check_flags(where: str, *, wanted: bool) -> None:
    """Ends the program where --gpu is given and not wanted, or other flags without it.

    Args:
      where: the command that --gpu goes with, for the message.
      wanted: whether it is this one.
    """
    if GPU.value is not None and not wanted:
        sys.exit(f"error: --gpu={GPU.value} goes with {where}")
    for flag in (GPUS, HOSTS):
        if flag.present and GPU.value is None:
            sys.exit(f"error: --{flag.name} goes with --gpu=NAME, one of {', '.join(ACCELERATORS)}")
