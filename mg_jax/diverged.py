"""The one error that is a result: training that does not converge."""


class Diverged(ArithmeticError):
    """The loss, or what an iteration left, is no longer finite."""

    PREFIX = "diverged: "

    def __str__(self) -> str:
        return self.PREFIX + super().__str__()
