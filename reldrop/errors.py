"""The one exception type of this package that is meant for the person at the keyboard."""


class ReldropError(Exception):
    """A mistake its user can mend: one sentence that says what is wrong, where, and what would be right.

    The entry points print it without a traceback and exit with code 1.
    """
