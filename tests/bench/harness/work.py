"""A unit of measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.harness.bench import Bench
from tests.bench.harness.figures import Figure, Target


@dataclass(frozen=True, slots=True)
class Work:
    """``run`` measures one subject once; a subject of ``once`` in the first round only, as it takes long."""

    name: str
    title: str
    subjects: tuple[str, ...]
    run: Callable[[Bench, str], list[Figure]]
    targets: tuple[Target, ...] = ()
    once: tuple[str, ...] = ()
    growth: tuple[int, ...] = ()
    """Measured at each of these sizes, once."""
