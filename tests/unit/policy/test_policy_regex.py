"""AS-path expressions: what routers' rules say of them, against ``re`` as a second reader, and what they cost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.policy.path_regex import MAX_PATTERN, MAX_STATES, PathRegex, PathRegexError
from bgpbfd.wire.as_path import Segment
from bgpbfd.wire.text import as_path_text

BOUNDARY = r"(?:\A|\Z|[ ,{}()\[\]])"


def fits(pattern: str, text: str) -> bool:
    return PathRegex(pattern).matches(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^$", ""),
        ("^65001_", "65001 65002"),
        ("^65001_", "65001"),
        ("_65001$", "65002 65001"),
        ("_65001_", "1 65001 2"),
        ("_65001_", "65001"),
        ("_65001_", "1 {65000,65001}"),
        ("_65001_65002_", "65001 65002"),
        ("^65001_65002$", "65001 65002"),
        ("^_65001_$", "65001"),
        ("^(_65001)+$", "65001 65001 65001"),
        ("^65001( 65001)*$", "65001"),
        ("_(65001|65009)_", "3 65009"),
        ("^[0-9]+$", "4200000000"),
        ("^[0-9]+ [0-9]+$", "1 2"),
        ("_6451[2-9]_|_645[2-9][0-9]_", "1 64530 2"),
        (r"\{65001,65002\}", "1 {65001,65002}"),
        ("[{]65001", "1 {65001,65002}"),
        (r"\(1 2\)", "(1 2) 3"),
        (r"\[1,2\]", "[1,2] 3"),
        ("^[^{}]*$", "1 2 3"),
        ("[]]", "[1,2]"),
        ("6500?1", "6501"),
        (".", "1"),
        ("1.2", "1 2"),
        ("^1?$", ""),
        ("$", "1 2"),
        ("$^", ""),
    ],
)
def test_expression_fits(pattern: str, text: str) -> None:
    assert fits(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^$", "1"),
        (".", ""),
        ("_65001_", "165001"),
        ("_65001_", "650011 2"),
        ("^65001_", "1 65001"),
        ("_65001$", "65001 2"),
        ("^65001$", "65001 65001"),
        ("_65001_65002_", "65001 1 65002"),
        ("^[^{}]*$", "1 {2,3}"),
        ("^[0-9]+ [0-9]+$", "1 2 3"),
        ("1$2", "1 2"),
        ("1^", "1"),
    ],
)
def test_expression_does_not_fit(pattern: str, text: str) -> None:
    assert not fits(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "position", "word"),
    [
        ("", None, '"^$"'),
        ("1" * (MAX_PATTERN + 1), None, "several"),
        ("(65001", 1, r"\("),
        ("1|(2|[0-9)", 6, r"\["),
        ("65001)", 6, '"("'),
        ("[0-9", 1, '"]"'),
        ("1]", 2, r"\]"),
        ("*1", 1, "repeat"),
        ("(+1)", 2, "repeat"),
        ("1**", 3, "behind"),
        ("1||2", 3, "?"),
        ("()", 2, "?"),
        ("1|", 3, "?"),
        ("[0-9]{2}", 6, r"\{"),
        ("1}", 2, r"\}"),
        (r"1\d", 2, "[0-9]"),
        ("1\\", 2, "\\"),
        ("[9-0]", 2, "9-0"),
        ("[ -9]", 2, "digits"),
        ("65001a", 6, "'a'"),
        ("[_]", 2, "'_'"),
        ("1-2", 2, "'-'"),
        (r"1\.2", 3, "'.'"),
        ("(" * 33 + "1" + ")" * 33, 33, "32"),
    ],
)
def test_fault_says_where_and_what_would_be_right(pattern: str, position: int | None, word: str) -> None:
    with pytest.raises(PathRegexError) as caught:
        PathRegex(pattern)
    assert caught.value.position == position
    assert word in str(caught.value)
    assert position is None or f"character {position})" in str(caught.value)


def test_equal_by_its_text() -> None:
    assert PathRegex("^1_") == PathRegex("^1_")
    assert PathRegex("^1_") != PathRegex("^1$")


def test_every_character_that_a_path_can_have_is_known() -> None:
    path = [Segment(kind, (1234567890, 4200000000)) for kind in (1, 2, 3, 4)]
    text = as_path_text(path)
    assert not fits("^1$", text)
    assert fits("1234567890.*1234567890.*1234567890.*1234567890", text)


# -- a second reader ---------------------------------------------------------------------------------------

atoms = st.sampled_from(
    ["1", "2", "10", " ", "_", ".", "^", "$", "[12]", "[^1]", r"\{", ",", "1_", "_2", "[0-9]", "^1", "2$"]
)
repeated = st.tuples(atoms, st.sampled_from(["", "", "*", "+", "?"])).map(
    lambda pair: f"({pair[0]}){pair[1]}" if pair[1] else pair[0]
)
patterns = st.recursive(
    st.lists(repeated, min_size=1, max_size=4).map("".join),
    lambda inner: st.tuples(inner, inner, st.sampled_from(["|", ""]), st.sampled_from(["", "*", "+", "?"])).map(
        lambda parts: f"({parts[0]}{parts[2]}{parts[1]}){parts[3]}"
    ),
    max_leaves=4,
)
texts = st.one_of(
    st.text(alphabet="12 {,}", max_size=12),
    st.lists(st.sampled_from([1, 2, 10, 12]), max_size=6).map(lambda asns: " ".join(map(str, asns))),
)


def translated(pattern: str) -> str:
    return pattern.replace("^", r"\A").replace("$", r"\Z").replace(r"[\A", "[^").replace("_", BOUNDARY)


@settings(max_examples=400, deadline=None)
@given(patterns, texts)
def test_says_what_a_backtracking_reader_says(pattern: str, text: str) -> None:
    assert fits(pattern, text) == (re.search(translated(pattern), text) is not None)


# -- cost --------------------------------------------------------------------------------------------------


class CountedText(str):
    """Counts how often its characters are handed out."""

    handed = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for character in super().__iter__():
            self.handed += 1
            yield character


@pytest.mark.parametrize(
    "pattern",
    ["^(65001_?)*$", "^([0-9]+_?)+$", "(_65001)*(_65001)*(_65001)*$", "^(1|1.|.1)*2$", "_1.*_1.*_1.*_1.*_2$"],
)
def test_catastrophic_for_backtracking_takes_one_step_a_character(pattern: str) -> None:
    expression = PathRegex(pattern)
    text = CountedText(" ".join(["65001"] * 2000) + "{")
    expression.matches(text)
    assert text.handed <= len(text)
    assert expression.states <= MAX_STATES


def test_stops_where_nothing_can_fit_any_more() -> None:
    text = CountedText("65002 " + "65001 " * 1000)
    assert not PathRegex("^65001_").matches(text)
    assert text.handed <= 5


@pytest.mark.parametrize("pattern", ["1" + "." * 40, "(1|2)*1" + "(1|2)" * 30])
def test_expression_whose_automaton_explodes_is_refused(pattern: str) -> None:
    with pytest.raises(PathRegexError, match="too complex"):
        PathRegex(pattern)


def test_long_list_of_numbers_is_taken() -> None:
    numbers = [str(64512 + 7 * index) for index in range(80)]
    expression = PathRegex(f"_({'|'.join(numbers)})_")
    assert all(expression.matches(f"1 {number} 2") for number in numbers)
    assert not expression.matches("1 64513 2")
