"""Compares an output with the lines that a page shows."""

import re

_VOLATILE = {
    r"\d\d:\d\d:\d\d(?:\.\d+)?": "a time",
    r"\d+(?:\.\d+)? m?s\b": "a duration",
    r"\b[0-9a-f]{32}\b": "an id",
    r"\b\d{16}\b": "the id of a dead letter",
}
_PATTERN = re.compile("|".join(f"({pattern})" for pattern in _VOLATILE) + r"|(\.\.\.)|( +)")


def pattern(shown: str) -> re.Pattern[str]:
    """Return a pattern for an output: ``...`` is any text, and times, durations and ids may be others.

    Runs of spaces match any other run, since the width of a column depends on them.
    """
    expression, position = "", 0
    for match in _PATTERN.finditer(shown):
        expression += re.escape(shown[position : match.start()])
        if match[0] == "...":
            expression += r"[\s\S]*?"
        elif match[0].isspace():
            expression += " +"
        else:
            expression += f"(?:{list(_VOLATILE)[match.lastindex - 1]})"
        position = match.end()
    return re.compile(expression + re.escape(shown[position:]))
