"""All works, in the order in which they are measured."""

from __future__ import annotations

from tests.bench.harness.work import Work
from tests.bench.works import bfd, day, failover, routes

WORKS: list[Work] = [*bfd.WORKS, *failover.WORKS, *routes.WORKS, *day.WORKS]
