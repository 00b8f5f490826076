"""What a benchmark gives and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One reading of one round. ``size``: of a growth plot's abscissa."""

    work: str
    subject: str
    metric: str
    unit: str
    value: float
    size: int | None = None
    round: int = 0


@dataclass(frozen=True, slots=True)
class Pauses:
    """Of one loop, since its process's start: how long its turns kept waiting what was due."""

    worst_ms: float
    cumulative: tuple[tuple[float, int], ...]
    """Upper bounds in ms, the last one infinite, and how many pauses were no longer."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The pauses of one loop of a subject over one round, for the JSON."""

    work: str
    subject: str
    loop: str
    pauses: Pauses
    size: int | None = None
    round: int = 0


def worst_between(before: Pauses, after: Pauses) -> float:
    """The longest pause between two looks, in ms.

    Exact if it is the longest since the start; else the upper bound of the longest bucket that grew.
    """
    if after.worst_ms > before.worst_ms:
        return after.worst_ms
    least = 0.0
    grown_below = 0
    for (bound_ms, earlier), (_, later) in zip(before.cumulative, after.cumulative, strict=True):
        if later - earlier > grown_below:
            grown_below, least = later - earlier, min(bound_ms, after.worst_ms)
    return least


@dataclass(frozen=True, slots=True)
class Target:
    """bgpbfd's ``metric`` is to be at most ``at_most``: times that of ``of``, or absolutely (None)."""

    metric: str
    at_most: float
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    reached: float | None
    """The ratio, or the reading; None: there is nothing to say it by."""

    @property
    def good(self) -> bool | None:
        return None if self.reached is None else self.reached <= self.target.at_most


def readings(figures: list[Figure], work: str, subject: str, metric: str) -> dict[int, float]:
    """By round."""
    return {f.round: f.value for f in figures if (f.work, f.subject, f.metric) == (work, subject, metric)}


def judge(figures: list[Figure], work: str, target: Target) -> Verdict:
    """A ratio is the median of those of the rounds in which both were measured; else of both medians."""
    ours = readings(figures, work, "bgpbfd", target.metric)
    if not ours:
        return Verdict(target, None)
    if target.of is None:
        return Verdict(target, median(ours.values()))
    theirs = {number: value for number, value in readings(figures, work, target.of, target.metric).items() if value}
    both = [ours[number] / theirs[number] for number in ours if number in theirs]
    return Verdict(target, median(both) if both else None)
