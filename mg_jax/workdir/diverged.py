"""Divergence: an error, but also a result of a run."""

from mg_jax.errors import UserError

# The file in the work directory of a run that diverged, until it continues: step and reason.
RECORD = "diverged.json"


class Diverged(UserError):
    """The loss, a parameter or a batch-norm statistic is not finite.

    Attributes:
      step: iterations done when it was noticed.
      reason: what is not finite, and on which step and grid.
    """

    def __init__(self, step: int, reason: str):
        super().__init__(f"diverged: {reason}")
        self.step = step
        self.reason = reason
