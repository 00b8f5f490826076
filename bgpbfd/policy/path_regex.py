"""Regular expressions over AS paths, as routers write them (``^65001_``, ``_(65010|65011)_``, ``^$``).

A neighbor chooses the path, so matching takes one table look-up a character whatever the expression is: each becomes a
deterministic automaton when it is read, and one that would grow too large is refused then. The libraries at hand do
not serve: ``re`` backtracks; RE2 has other rules for ``_`` and for braces, gives no position of an error, and has no
source that installs without a C++ set-up of its own.

The text is ``wire.text.as_path_text``'s: ``65001 65002 {65003,65004}``, confederation segments ``(1 2)`` and ``[1,2]``.
``_`` is the start or the end of the path, or one of its separators (space, comma, any bracket). ``{`` and ``}`` only
stand for themselves, and behind a ``\\``: so nobody takes them for a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_PATTERN = 512
MAX_NESTING = 32
MAX_STATES = 1000
MAX_WORK = 1_000_000  # nodes looked at while an automaton is built: under a second

SEPARATORS = frozenset(" ,{}()[]")
ALPHABET = frozenset("0123456789") | SEPARATORS
_SPECIAL = frozenset(".*+?()[]{}|^$_-,\\ ")
_REPEATS = frozenset("*+?")
_TOO_COMPLEX = "too complex: write it in several simpler expressions"

_MATCHED = 0
_LOST = 1


class PathRegexError(ValueError):
    """An expression that cannot be used: why, and at which character (from 1; None: all of it)."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason if position is None else f"{reason} (at character {position})")
        self.position = position


class PathRegex:
    """One expression, ready to match. Equal by its text. Raises PathRegexError."""

    __slots__ = ("_accepts_at_end", "_rows", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        graph = _Graph()
        start = graph.build(_Parser(pattern).parse(), graph.add(_Accept()))
        self._rows, self._accepts_at_end = _determine(graph, start)

    def matches(self, text: str) -> bool:
        """Whether the expression fits any part of the path's text."""
        rows = self._rows
        state = 2
        if rows[2] is rows[_MATCHED]:
            return True
        for character in text:
            state = rows[state][character]
            if state <= _LOST:
                return state == _MATCHED
        return self._accepts_at_end[state]

    @property
    def states(self) -> int:
        """How many states the automaton has; matching costs no more with many than with few."""
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathRegex) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"PathRegex({self.pattern!r})"


# -- reading -----------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class _Characters:
    """One character of these."""

    members: frozenset[str]


@dataclass(slots=True, frozen=True)
class _Edge:
    """The start of the path, or its end."""

    end: bool


@dataclass(slots=True, frozen=True)
class _Sequence:
    items: tuple[_Tree, ...]


@dataclass(slots=True, frozen=True)
class _Choice:
    items: tuple[_Tree, ...]


@dataclass(slots=True, frozen=True)
class _Repeat:
    """``operator``: ``*``, ``+`` or ``?``."""

    item: _Tree
    operator: str


_Tree: TypeAlias = _Characters | _Edge | _Sequence | _Choice | _Repeat

_BOUNDARY = _Choice((_Characters(SEPARATORS), _Edge(False), _Edge(True)))


class _Parser:
    """expression = branch { "|" branch }; branch = { atom [ "*" | "+" | "?" ] }."""

    def __init__(self, pattern: str) -> None:
        if not pattern:
            raise PathRegexError('an empty expression fits every path; the empty path is "^$"')
        if len(pattern) > MAX_PATTERN:
            raise PathRegexError(f"longer than {MAX_PATTERN} characters: write several expressions")
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def parse(self) -> _Tree:
        tree = self._expression()
        if self._at < len(self._pattern):
            raise self._error('")" without "(" before it')
        return tree

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _error(self, reason: str, at: int | None = None) -> PathRegexError:
        return PathRegexError(reason, (self._at if at is None else at) + 1)

    def _expression(self) -> _Tree:
        branches = [self._branch()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._branch())
        return branches[0] if len(branches) == 1 else _Choice(tuple(branches))

    def _branch(self) -> _Tree:
        items: list[_Tree] = []
        while (character := self._peek()) and character not in "|)":
            if character in _REPEATS:
                raise self._error(f'nothing that "{character}" could repeat')
            item = self._atom(character)
            operator = self._peek()
            if operator and operator in _REPEATS:
                self._at += 1
                item = _Repeat(item, operator)
                if (second := self._peek()) and second in _REPEATS:
                    raise self._error(f'"{second}" behind "{operator}"')
            items.append(item)
        if not items:
            raise self._error('nothing stands here: for "may be left out" write "?"')
        return items[0] if len(items) == 1 else _Sequence(tuple(items))

    def _atom(self, character: str) -> _Tree:
        start = self._at
        self._at += 1
        match character:
            case "(":
                return self._group(start)
            case "[":
                return _Characters(self._set(start))
            case ".":
                return _Characters(ALPHABET)
            case "_":
                return _BOUNDARY
            case "^" | "$":
                return _Edge(character == "$")
            case "\\":
                return _Characters(frozenset(self._escaped()))
            case "{" | "}":
                raise self._error(f'an AS_SET\'s brace is written "\\{character}"; counts are not known', start)
            case "]":
                raise self._error('"]" without "[" before it; itself it is written "\\]"', start)
        return _Characters(frozenset(self._known(character, start)))

    def _group(self, start: int) -> _Tree:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error(f'more than {MAX_NESTING} "(" inside one another', start)
        tree = self._expression()
        if self._peek() != ")":
            raise self._error('"(" without ")"; itself it is written "\\("', start)
        self._at += 1
        self._depth -= 1
        return tree

    def _known(self, character: str, at: int) -> str:
        if character not in ALPHABET:
            raise self._error(f"no AS path's text has {character!r} in it", at)
        return character

    def _escaped(self) -> str:
        at = self._at
        character = self._peek()
        if not character or character not in _SPECIAL:
            shown = f"\\{character}"
            raise self._error(f'"{shown}" is not known; a digit is "[0-9]"', at - 1)
        self._at += 1
        return self._known(character, at)

    def _set(self, start: int) -> frozenset[str]:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        members: set[str] = set()
        first = self._at
        while (character := self._peek()) and (character != "]" or self._at == first):
            low = self._member(character)
            at = self._at
            if self._peek() != "-" or self._pattern[at + 1 : at + 2] in {"]", ""}:
                members.add(low)
                continue
            self._at += 1
            high = self._member(self._peek())
            if not (low.isdigit() and high.isdigit() and low <= high):
                raise self._error(f'"{low}-{high}": expected a range of digits, such as "0-9"', at - 1)
            members.update(map(str, range(int(low), int(high) + 1)))
        if not character:
            raise self._error('"[" without "]"; itself it is written "\\["', start)
        self._at += 1
        return ALPHABET - members if negated else frozenset(members)

    def _member(self, character: str) -> str:
        at = self._at
        self._at += 1
        return self._escaped() if character == "\\" else self._known(character, at)


# -- the automaton -----------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class _Accept:
    pass


@dataclass(slots=True)
class _Node:
    """``what`` None: a fork, passed without a character."""

    what: _Characters | _Edge | _Accept | None
    following: list[int]


class _Graph:
    """The non-deterministic automaton (Thompson's construction)."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.work = 0

    def add(self, what: _Characters | _Edge | _Accept | None, *following: int) -> int:
        self.nodes.append(_Node(what, list(following)))
        return len(self.nodes) - 1

    def build(self, tree: _Tree, out: int) -> int:
        """The node that ``tree`` starts at, when what follows it starts at ``out``."""
        match tree:
            case _Characters() | _Edge():
                return self.add(tree, out)
            case _Sequence(items):
                for item in reversed(items):
                    out = self.build(item, out)
                return out
            case _Choice(items):
                return self.add(None, *(self.build(item, out) for item in items))
            case _Repeat(item, "?"):
                return self.add(None, self.build(item, out), out)
            case _Repeat(item, operator):
                fork = self.add(None)
                body = self.build(item, fork)
                self.nodes[fork].following = [body, out]
                return fork if operator == "*" else body

    def reach(self, starts: Sequence[int], *, begin: bool, end: bool) -> frozenset[int]:
        """What can be reached without a character: the nodes that take one, ends that are not there yet, acceptance."""
        found: set[int] = set()
        seen = set(starts)
        pending = list(starts)
        while pending:
            number = pending.pop()
            node = self.nodes[number]
            if isinstance(node.what, _Edge):
                passed = end if node.what.end else begin
                if node.what.end and not end:
                    found.add(number)
            else:
                passed = node.what is None
                if not passed:
                    found.add(number)
            if passed:
                fresh = [following for following in node.following if following not in seen]
                seen.update(fresh)
                pending.extend(fresh)
        self.spend(len(seen))
        return frozenset(found)

    def spend(self, work: int) -> None:
        """Refuses an expression whose automaton takes too long to build."""
        self.work += work
        if self.work > MAX_WORK:
            raise PathRegexError(_TOO_COMPLEX)


def _determine(graph: _Graph, start: int) -> tuple[list[dict[str, int]], list[bool]]:
    """A row of next states by character for each state, and which of them accept at the end of the text.

    State 0 has matched and 1 cannot any more; 2 is the start, which nothing leads back to: there ``^`` fits.
    """
    accept = next(n for n, node in enumerate(graph.nodes) if isinstance(node.what, _Accept))
    again = graph.reach([start], begin=False, end=False)  # the expression may start at any character
    first = graph.reach([start], begin=True, end=False)
    matched = dict.fromkeys(ALPHABET, _MATCHED)
    if accept in first:
        return [matched, dict.fromkeys(ALPHABET, _LOST), matched], [True, False, True]
    closures = {
        number: graph.reach(node.following, begin=False, end=False)
        for number, node in enumerate(graph.nodes)
        if isinstance(node.what, _Characters)
    }
    rows: list[dict[str, int]] = [matched, dict.fromkeys(ALPHABET, _LOST)]
    at_end = [True, False]
    numbers: dict[frozenset[int], int] = {}
    pending = [first]
    while pending:
        nodes = pending.pop(0)
        ends = [number for number in nodes if isinstance(graph.nodes[number].what, _Edge)]
        at_end.append(accept in graph.reach(ends, begin=len(rows) == 2, end=True))
        row: dict[str, int] = {}
        rows.append(row)
        for characters, taken in _classes(graph, nodes):
            following = again.union(*(closures[number] for number in taken))
            graph.spend(len(nodes) + len(following))
            if accept in following:
                target = _MATCHED
            elif not following:
                target = _LOST
            else:
                target = numbers.get(following, 0)
                if not target:
                    target = numbers[following] = len(rows) + len(pending)
                    pending.append(following)
            row.update(dict.fromkeys(characters, target))
        if len(rows) + len(pending) > MAX_STATES:
            raise PathRegexError(_TOO_COMPLEX)
    return rows, at_end


def _classes(graph: _Graph, nodes: frozenset[int]) -> list[tuple[list[str], list[int]]]:
    """The alphabet in groups that the same of ``nodes`` take."""
    takers: dict[str, list[int]] = {character: [] for character in ALPHABET}
    for number in nodes:
        what = graph.nodes[number].what
        if isinstance(what, _Characters):
            for character in what.members:
                takers[character].append(number)
    groups: dict[tuple[int, ...], list[str]] = {}
    for character, taken in takers.items():
        groups.setdefault(tuple(taken), []).append(character)
    return [(characters, list(taken)) for taken, characters in groups.items()]
