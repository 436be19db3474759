"""The one error that is a result: training that does not converge."""

from mg_jax.errors import UserError

# What a work directory holds of a run that diverged, until it continues: step and reason.
RECORD = "diverged.json"


class Diverged(UserError):
    """The loss, or what an iteration left, is no longer finite.

    Attributes:
      step: iterations done when it was seen.
      reason: what was not finite, and where.
    """

    def __init__(self, step: int, reason: str):
        super().__init__(f"diverged: {reason}")
        self.step = step
        self.reason = reason
