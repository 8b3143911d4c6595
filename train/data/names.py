"""Names as messages show them, and how two that look alike differ."""

import functools
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

Name = str | int
_TRUTH = {"true": 1, "false": 0}
# What `shown` leaves of a long value.
_SHOWN = 60
# Cyrillic letters, then Greek ones, that look like these Latin ones.
_LOOK_ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425"
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c"
    "\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf",
    "ABEKMHOPCTXaeopcyxiABEZHIKMNOPTYXo",
)


def shown(value: object) -> str:
    """Returns a value as Python writes it, a long one cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits; lists without end
        return f"a very long {type(value).__name__}"
    if len(text) <= 2 * _SHOWN:
        return text
    return f"{text[:_SHOWN]}... ({len(text)} characters)"


def is_unicode(text: str) -> bool:
    """Whether text can be written: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def difference(name: Name, other: Name) -> str:
    """Returns in what alone two names differ that look alike; empty: in more."""
    number = _number(name)
    is_number = number is not None and number == _number(other)
    if name == other:
        return ""
    if not (isinstance(name, str) and isinstance(other, str)):
        there, here = _kind(other), _kind(name)
        return f"in type: {there} there, {here} here" if is_number else ""
    for what, fold in _FOLDS:
        if fold(name) == fold(other):
            return what
    if is_number:
        return "in how the number is written"
    return "in spaces, case or Unicode form" if _key(name) == _key(other) else ""


def alike(name: Name, names: Iterable[Name]) -> str:
    """Returns which of `names` looks like a name, and how they differ; else empty."""
    for other in names:
        if what := difference(name, other):
            there, here = _pair(other, name)
            return f"{there}, from which {here} differs only {what}"
    return ""


def look_alikes(names: Iterable[Name]) -> list[str]:
    """Returns the pairs of names that look alike, and how each differs, in words."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if isinstance(name, str):
            groups[_key(name)].append(name)
    found = []
    for first, *others in groups.values():
        for other in others:
            a, b = _pair(first, other)
            found.append(f"{a} and {b} differ only {difference(first, other)}")
    return found


def _pair(*names: Name) -> list[str]:
    """Returns two names so that one sees how they differ."""
    plain = [
        unicodedata.normalize("NFKC", str(n)).translate(_LOOK_ALIKE) for n in names
    ]
    seen_alike = plain[0] == plain[1] and all(isinstance(n, str) for n in names)
    return [ascii(name) if seen_alike else shown(name) for name in names]


def _number(name: Name) -> Decimal | None:
    """Returns the number that a name stands for, true and false too."""
    if isinstance(name, str):
        name = _TRUTH.get(name.casefold(), name)
    try:
        number = Decimal(name)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _kind(name: Name) -> str:
    return (
        f"the text {name!r}" if isinstance(name, str) else f"the whole number {name!r}"
    )


def _visible(text: str) -> str:
    """Returns text without characters of no width, spaces left as they are."""
    hidden = ("Cf", "Cc")
    return "".join(
        c
        for c in text
        if c.isspace()
        or not (unicodedata.category(c) in hidden or "\ufe00" <= c <= "\ufe0f")
    )


def _key(text: str) -> str:
    """Returns what names that look alike share."""
    text = _visible(unicodedata.normalize("NFKC", text))
    return " ".join(text.translate(_LOOK_ALIKE).strip("\"' ").split()).casefold()


_FOLDS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("in outer spaces", str.strip),
    ("in spaces", lambda text: " ".join(text.split())),
    ("in Unicode form (NFC)", functools.partial(unicodedata.normalize, "NFC")),
    ("in characters that cannot be seen", _visible),
    ("in case", str.casefold),
    ("in quotes", lambda text: text.strip("\"' ")),
    ("in Unicode form (NFKC)", functools.partial(unicodedata.normalize, "NFKC")),
    ("in letters of another alphabet", lambda text: text.translate(_LOOK_ALIKE)),
)
