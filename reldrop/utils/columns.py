"""Text in columns."""


def aligned(lines: list[list[str]], start: str = "", between: str = "  ", end: str = "") -> list[str]:
    """Return lines of texts, the first of which is the header, in columns with a rule under the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return [f"{start}{between.join(map(str.ljust, line, widths))}{end}".rstrip() for line in ruled]
