"""The one exception type of this package that is meant for the person at the keyboard, and other errors in a line."""

import sysconfig
import traceback
from pathlib import Path

# Where code is that is not the user's: this package, and what is installed.
_OTHERS = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    "<",
)


class ReldropError(ValueError):
    """A mistake that its user can correct: one sentence that says what is wrong, where, and what would be right.

    The entry points print it without a traceback and exit with code 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error of some library, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error from the first one in code of the user's own; none if there is no such code in it."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((place for place, frame in enumerate(frames) if not frame.filename.startswith(_OTHERS)), len(frames))
    return list(frames[first:])


def raised(error: BaseException) -> str:
    """Return an error in a line: its type, the first line of its message, and the last line of the user's own code."""
    own = [frame for frame in own_frames(error) if not frame.filename.startswith(_OTHERS)]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"
