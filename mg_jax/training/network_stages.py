"""The stages of a network by its modules: s1 is the stem, s2 ... s5 are res2 ... res5."""

import re
from collections.abc import Callable
from typing import Any

import jax

from mg_jax.errors import UserError
from mg_jax.training_settings import STAGES

_NAME = re.compile(r"s([1-5])(_fuse)?")
HEAD = len(STAGES)


def map_stages(function: Callable[[Any, int], Any], params: Any) -> Any:
    """Applies a function to each array of a tree and the number of its stage.

    Args:
      function: of an array and 0 for the stem, 1 ... 4 for res2 ... res5, HEAD for the rest. What
        fuses pathways belongs to the stage before it.
      params: by the names of a network's modules.

    Raises:
      UserError: if the network has no such stages.
    """
    if not any(_NAME.fullmatch(name) for name in params):
        raise UserError(
            "the network of model.name has no stages s1 ... s5, which optimizer.freeze and "
            "optimizer.layer_decay are about; leave both at their defaults"
        )

    def apply(path, leaf):
        name = _NAME.fullmatch(path[0].key)
        return function(leaf, int(name[1]) - 1 if name else HEAD)

    return jax.tree_util.tree_map_with_path(apply, params)


def frozen(params: Any, last: str) -> Any:
    """Parameters through which no gradient passes up to a stage, one of STAGES; '' freezes none."""
    if not last:
        return params
    most = STAGES.index(last)
    return map_stages(
        lambda leaf, stage: jax.lax.stop_gradient(leaf) if stage <= most else leaf, params
    )
