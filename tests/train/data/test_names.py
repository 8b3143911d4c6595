"""Names that look alike, and how messages show them."""

import pytest

from train.data.names import alike, difference, is_unicode, look_alikes, shown

ACCENT, COMPOSED, DECOMPOSED = "e\u0301", "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("name", "other", "what"),
    [
        ("cat", "cat ", "in outer spaces"),
        ("cat", "\xa0cat", "in outer spaces"),
        ("a b", "a  b", "in spaces"),
        (COMPOSED, DECOMPOSED, "in Unicode form (NFC)"),
        ("cat", "ca\u200bt", "in characters that cannot be seen"),
        ("cat", "\ufeffcat", "in characters that cannot be seen"),
        ("cat", "ca\u00adt", "in characters that cannot be seen"),
        ("cat", "Cat", "in case"),
        ("stra\u00dfe", "STRASSE", "in case"),
        ("cat", '"cat"', "in quotes"),
        ("cat", "\uff43\uff41\uff54", "in Unicode form (NFKC)"),
        ("cat", "c\u0430t", "in letters of another alphabet"),
        ("cat", " C\u0430t", "in spaces, case or Unicode form"),
        ("1", "01", "in how the number is written"),
        ("1", 1, "in type: the whole number 1 there, the text '1' here"),
        (1, "1.0", "in type: the text '1.0' there, the whole number 1 here"),
        ("True", 1, "in type: the whole number 1 there, the text 'True' here"),
        ("true", "True", "in case"),
        ("cat", "cats", ""),
        ("cat", 1, ""),
        (1, 2, ""),
        ("cat", "cat", ""),
    ],
)
def test_says_in_what_two_names_differ(name, other, what):
    assert difference(name, other) == what
    assert bool(difference(other, name)) == bool(what)


def test_a_pair_that_looks_alike_is_written_so_that_it_differs():
    assert alike(DECOMPOSED, ["tea", COMPOSED]) == (
        r"'caf\xe9', from which 'cafe\u0301' differs only in Unicode form (NFC)"
    )
    assert alike("na\u00efve", ["Na\u00efve"]).startswith(
        "'Na\u00efve', from which 'na"
    )
    assert alike("tea", [COMPOSED]) == ""


def test_finds_every_pair_among_many():
    names = ["cat", "dog", "cat ", "DOG", "bird", 3]
    assert look_alikes(names) == [
        "'cat' and 'cat ' differ only in outer spaces",
        "'dog' and 'DOG' differ only in case",
    ]


def test_a_long_value_is_cut():
    assert shown("a") == "'a'"
    assert shown("a" * 500) == f"'{'a' * 59}... (502 characters)"
    assert shown(10**5000) == "a very long int"
    endless = []
    for _ in range(100_000):
        endless = [endless]
    assert shown(endless) == "a very long list"


def test_half_a_surrogate_pair_is_no_unicode():
    assert is_unicode("\U0001f600")
    assert not is_unicode("\ud83d")
