"""Text on one line of a terminal, with what cannot be seen escaped."""

import re

# Spaces beside a line break are its indentation; others are kept as they are.
_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def one_line(text: str) -> str:
    """Returns text without line breaks, and what cannot be seen escaped."""
    return escaped(_BREAK.sub(" ", text.strip()))


def escaped(text: str) -> str:
    r"""Returns text with tabs, no-break spaces and the like as Python writes them.

    Plain spaces stay as they are, two beside each other too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """Returns a duration with its unit: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
