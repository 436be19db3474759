"""Which checkpoints are kept: the newest and the best."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import orbax.checkpoint as ocp


@dataclasses.dataclass(frozen=True)
class NewestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps the newest checkpoints and the one with the best score.

    Attributes:
      newest: how many of the newest.
      scores: by step, of the evaluated checkpoints.
    """

    newest: int
    scores: dict[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each of the checkpoints; Orbax calls it at every save."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = self.kept(steps)
        return [step in kept for step in steps]

    def kept(self, steps: Sequence[int]) -> set[int | None]:
        """Those of the steps whose checkpoints are kept, and None if none was evaluated."""
        return {*sorted(steps)[-self.newest :], best_step(self.scores, steps)}


def best_step(scores: dict[int, float], steps: Iterable[int]) -> int | None:
    """The step with the best score, the last of equal ones; None if none was evaluated."""
    return max(
        (step for step in steps if step in scores), key=lambda s: (scores[s], s), default=None
    )
