"""What went wrong, for the person who started a command."""


class UserError(Exception):
    """Something given does not fit; the message names it, valid values and what to run.

    Commands end with this message alone. Every other exception is a fault of the program, and ends
    with its traceback.
    """
