"""The one exception type of this package that is meant for the person at the keyboard."""


class ReldropError(ValueError):
    """A mistake that its user can correct: one sentence that says what is wrong, where, and what would be right.

    The entry points print it without a traceback and exit with code 1.
    """


def first_line(error: Exception) -> str:
    """Return the first line of the message of an error of some library, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
