"""What is worked out once is what would be worked out anew, and does not grow without end."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from announcer_bench import P1, P2, P3, Bench
from export_bench import EBGP, FROM_CLIENT, FROM_EBGP, FROM_IBGP, IBGP, LEARNED, NLRI, OUR_V4, THIRD_V4, TO_CLIENT
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Facts, Match
from bgpbfd.policy.policy import REJECT, Policy, Term, Verdict
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.rib import exporter as module
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext, export
from bgpbfd.rib.exporter import Exporter
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext

OTHER = b"\x18\xcb\x00\x71"
ONLY_NLRI = PrefixRange.exactly(P1)  # its octets are NLRI

BY_SOURCE = Policy("s", terms=(Term(Match(sources=("api", "peer")), changes=Changes(med=9)),))
BY_PREFIX = Policy(
    "x",
    terms=(
        Term(Match(prefixes=(ONLY_NLRI,), sources=("config",)), REJECT),
        Term(Match(prefixes=(ONLY_NLRI,)), changes=Changes(med=9, next_hops=(THIRD_V4,))),
    ),
)
CONTEXTS = [
    replace(base, policy=policy)
    for base in (EBGP, IBGP, TO_CLIENT, replace(IBGP, graceful_shutdown=True))
    for policy in (None, Policy("open"), BY_SOURCE, BY_PREFIX)
]
ORIGINS = [None, FROM_EBGP, replace(FROM_EBGP, policy=None), FROM_IBGP, FROM_CLIENT]


def up(context: ExportContext) -> Announcer:
    announcer = Announcer(lambda family, nlri: None, lambda family: [])
    wire = UpdateContext(
        asn4=True, external=context.external, families=context.families, remote_asn=65001, local_asn=65010
    )
    announcer.session_up(wire, context, end_of_rib=False)
    return announcer


@given(
    context=st.sampled_from(CONTEXTS),
    asked=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3]),
            st.sampled_from(ORIGINS),
            st.sampled_from([NLRI, OTHER]),
            st.sampled_from(["config", "api"]),
            st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]),
        ),
        max_size=30,
    ),
)
def test_it_answers_as_export_does_whatever_was_asked_before(
    context: ExportContext, asked: list[tuple[int, PeerInfo | None, bytes, str, Family]]
) -> None:
    objects = [LEARNED, replace(LEARNED), replace(LEARNED, med=None), replace(LEARNED, next_hop=OUR_V4)]
    announcer = up(context)
    for number, origin, nlri, source, family in asked:
        said = source if origin is None else "peer"
        found = announcer.exported(objects[number], origin, family, nlri, said)
        assert found == export(objects[number], origin, context, family, nlri, said).result


@pytest.mark.parametrize("policy", [None, Policy("open"), BY_SOURCE, BY_PREFIX])
def test_equal_attributes_leave_as_one_object(policy: Policy | None) -> None:
    announcer = up(replace(EBGP, policy=policy))
    routes = [PathAttributes(med=5) for _ in range(5)]
    found = {id(announcer.exported(route, None, IPV4_UNICAST, OTHER, "config")) for route in routes}
    assert len(found) == 1
    assert len({id(announcer.exported(route, None, IPV4_UNICAST, NLRI, "api")) for route in routes}) == 1


class Counting(Policy):
    asked: ClassVar[list[bytes]] = []

    def evaluate(self, attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> Verdict:
        Counting.asked.append(nlri)
        return super().evaluate(attributes, family, nlri, facts)


@pytest.mark.parametrize(("terms", "questions"), [((), 1), (BY_PREFIX.terms, 100)])
def test_a_policy_is_asked_of_every_prefix_only_if_it_looks_at_it(terms: tuple[Term, ...], questions: int) -> None:
    Counting.asked = []
    announcer = up(replace(EBGP, policy=Counting("c", terms=terms)))
    shared = PathAttributes()
    for number in range(100):
        announcer.exported(shared, None, IPV4_UNICAST, bytes((8, number)), "config")
    assert len(Counting.asked) == questions


@pytest.mark.parametrize("policy", [Policy("open"), BY_PREFIX])
def test_what_is_kept_is_bounded_by_its_memory(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT", 100_000)
    exporter = Exporter(replace(EBGP, policy=policy))
    most = 0
    for number in range(500):
        attributes = replace(LEARNED, communities=tuple(range(number % 200)))
        out = exporter.work_out(attributes, FROM_EBGP, IPV4_UNICAST, OTHER, "peer")
        assert isinstance(out, PathAttributes)
        assert out.communities == attributes.communities
        tables = (exporter.shared, exporter._values, exporter._prepared, exporter._finished)
        most = max(most, *(len(table) for table in tables))
    assert 1 < most < 100


def test_rfc4271_5_1_3_a_next_hop_that_is_set_is_not_taken_for_the_same_one_that_was_learned() -> None:
    """Alike in every octet, and the one goes out as it is, the other becomes our own address."""
    policy = Policy(
        "x",
        terms=(
            Term(Match(prefixes=(ONLY_NLRI,)), changes=Changes(med=9, next_hops=(bytes([192, 0, 2, 2]),))),
            Term(changes=Changes(med=9)),
        ),
    )
    assert LEARNED.next_hop == bytes([192, 0, 2, 2])
    for order in ((NLRI, OTHER), (OTHER, NLRI)):
        announcer = up(replace(EBGP, policy=policy))
        found = {nlri: announcer.exported(LEARNED, FROM_EBGP, IPV4_UNICAST, nlri, "peer") for nlri in order}
        next_hops = {nlri: out.next_hop for nlri, out in found.items() if isinstance(out, PathAttributes)}
        assert next_hops == {NLRI: LEARNED.next_hop, OTHER: OUR_V4}


def test_identity_is_not_mistaken_when_an_object_is_gone_and_another_took_its_place() -> None:
    announcer = up(EBGP)
    for number in range(300):
        route = PathAttributes(med=number)  # freed each time, if nobody keeps it
        found = announcer.exported(route, None, Family(1, 1), NLRI, "config")
        assert isinstance(found, PathAttributes)
        assert found.med == number


def test_without_a_session_nothing_can_be_sent() -> None:
    announcer = up(EBGP)
    announcer.exported(LEARNED, None, IPV4_UNICAST, NLRI, "config")
    announcer.session_down()
    assert announcer.exported(LEARNED, None, IPV4_UNICAST, NLRI, "config") == "the session is not up"
    assert announcer.exported_flow(LEARNED, FROM_EBGP, IPV4_FLOW, NLRI) == "the session is not up"
    announcer.change_export(EBGP)
    assert announcer.exported(LEARNED, None, IPV4_UNICAST, NLRI, "config") == "the session is not up"


def test_rfc8955_6_a_learned_flow_goes_on_when_it_is_said_to_be_feasible() -> None:
    announcer = up(EBGP)
    assert "validated" in str(announcer.exported(LEARNED, FROM_EBGP, IPV4_FLOW, NLRI, "peer"))
    found = announcer.exported_flow(LEARNED, FROM_EBGP, IPV4_FLOW, NLRI)
    assert isinstance(found, PathAttributes)
    assert "RFC 8212" in str(announcer.exported_flow(LEARNED, replace(FROM_EBGP, policy=None), IPV4_FLOW, NLRI))
    assert "validated" in str(announcer.exported(LEARNED, FROM_EBGP, IPV4_FLOW, NLRI, "peer"))


# -- why ---------------------------------------------------------------------------------------------------


def test_why_says_what_the_policy_says_of_sent_and_of_refused_routes() -> None:
    bench = Bench()
    bench.export = replace(bench.export, policy=BY_PREFIX)
    bench.set(P1, PathAttributes())
    bench.set(P2, PathAttributes())
    bench.up()
    bench.drain()
    assert bench.announcer.reason(P1) == 'policy "x": term 1 rejects'
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) == 'policy "x": term 1 rejects'
    assert bench.announcer.why(IPV4_UNICAST, P2.nlri) == 'policy "x": default accepts'
    assert bench.announcer.why(IPV6_UNICAST, P3.nlri) is None  # nothing is wanted
    assert not bench.announcer.has_pending  # asking changes nothing
    assert bench.announcer.sent_count() == 1


def test_why_follows_a_change_of_policy() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) is None
    bench.announcer.change_export(replace(bench.export, policy=Policy("late")))
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) == 'policy "late": default accepts'
    assert bench.drain() == []


def test_why_has_nothing_to_say_where_the_policy_was_not_asked() -> None:
    bench = Bench()
    bench.export = replace(bench.export, policy=Policy("open"))
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) is None
    bench.set(P1, "carries NO_EXPORT")
    bench.up()
    bench.drain()
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) is None
    assert bench.announcer.why(IPV4_FLOW, P1.nlri) is None
    bench.announcer.session_down()
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) is None


def test_asking_why_costs_the_routes_nothing() -> None:
    Counting.asked = []
    bench = Bench()
    bench.export = replace(bench.export, policy=Counting("c"))
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.announcer.why(IPV4_UNICAST, P1.nlri)
    assert len(Counting.asked) == 2
    bench.announcer.mark_all()
    bench.drain()
    assert len(Counting.asked) == 2


def test_an_error_in_the_asking_does_not_leave_the_announcer_explaining() -> None:
    bench = Bench()
    bench.export = replace(bench.export, policy=Policy("open"))
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()

    class Broken(dict[tuple[Family, bytes], PathAttributes | str]):
        def get(self, *args: object) -> PathAttributes | str:  # type: ignore[override]
            raise KeyError(args)

    kept, bench.routes = bench.routes, Broken()
    with pytest.raises(KeyError):
        bench.announcer.why(IPV4_UNICAST, P1.nlri)
    bench.routes = kept
    bench.announcer.mark_all()
    assert bench.drain() == []
    assert bench.announcer.why(IPV4_UNICAST, P1.nlri) == 'policy "open": default accepts'
