"""Words for messages, tables and figures."""

from collections.abc import Iterable
from difflib import get_close_matches


def plain(text: str) -> str:
    """Return text that any font and file takes: bytes of a file's name that are not UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most similar to `word`, if one is similar enough, from 0 for any to 1 for itself."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def unknown(sentence: str, word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return `sentence` and a hint: the known word nearest to `word`, else `otherwise`, by default all known words."""
    known = list(known)
    if near := nearest(word, known):
        return f"{sentence}; did you mean {near}?"
    return f"{sentence}; {otherwise or 'known are ' + ', '.join(sorted(known))}"


def format_columns(lines: list[list[str]], start: str = "", between: str = "  ", end: str = "") -> list[str]:
    """Return lines of texts, the first of which is the header, in columns with a rule under the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return [f"{start}{between.join(map(str.ljust, line, widths))}{end}".rstrip() for line in ruled]
