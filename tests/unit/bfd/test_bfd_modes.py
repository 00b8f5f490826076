"""RFC 5880 §6.4, §6.6, §6.8.3, §6.8.9: demand mode, the echo function, the C bit, late packets; rule by rule."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest
from bfd_bench import DOWN, FAST, INIT, MS, UP, Bench, settled
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bfd.echo import Echo, echo_discriminator
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.states import Action, Transmit
from bgpbfd.bfd.timers import LAG_US
from bgpbfd.bfd.variables import Variables
from bgpbfd.bfd.wheel import GRAIN_US
from bgpbfd.core import SECOND
from bgpbfd.wire.bfd import ControlPacket, push_control
from tests.unit.bfd.bfd_pulse import PulseShell

DEMAND = msgspec.structs.replace(FAST, demand=True)
ECHO = msgspec.structs.replace(FAST, echo_tx_us=20 * MS, required_min_echo_rx_us=30 * MS)


# -- demand mode ----------------------------------------------------------------------------------------------


def test_rfc5880_6_6_d_is_set_only_while_both_are_up() -> None:
    bench = Bench(DEMAND)
    before = [p for _, p in bench.run(60 * MS)]
    before += bench.hear(state=INIT)  # we are Up, the remote is not
    assert bench.session.state is UP
    assert {p.demand for p in before} == {False}
    told = bench.hear(state=UP)
    assert [p.demand for p in told] == [True]  # §6.8.7: the contents changed, so at once
    assert {p.demand for p in bench.hear(state=DOWN)} == {False}


def in_demand() -> Bench:
    """Up, D sent, the opening poll answered; the remote has fallen silent."""
    bench = Bench(DEMAND).up()
    assert bench.session.demand_in_force
    assert not bench.session.polling
    return bench


def test_rfc5880_6_6_a_silent_remote_is_polled_and_stays_up_while_it_answers() -> None:
    bench = in_demand()
    for _ in range(20):
        heard_at = bench.now
        sent: list[tuple[int, ControlPacket]] = []
        while not any(p.poll for _, p in sent):
            sent += bench.run(MS)
            assert bench.now - heard_at < SECOND
        # §6.8.4, demand: our own multiplier over our own interval.
        assert bench.now - heard_at == pytest.approx(150 * MS, abs=2 * MS)
        bench.hear(state=UP, final=True)
        assert not bench.session.polling
    assert bench.transitions == []


def test_rfc5880_6_8_4_demand_poll_without_an_answer_is_down_one_detection_time_after_its_start() -> None:
    bench = in_demand()
    heard_at = bench.now
    sent = bench.run(SECOND)
    polled_at = next(at for at, p in sent if p.poll)
    [down] = bench.transitions
    assert (down.old, down.new, down.diag, down.blame) == (UP, DOWN, 1, "path-loss")
    assert down.at == polled_at + 150 * MS
    assert down.at == heard_at + 300 * MS
    assert sum(p.poll for at, p in sent if at < down.at) >= 3  # polls ride on scheduled packets


def test_demand_detection_uses_the_remotes_min_rx_where_it_is_the_slower() -> None:
    bench = Bench(DEMAND).up()
    bench.hear(state=UP, required_min_rx_us=200 * MS)
    assert bench.session.detection_in_force_us == 600 * MS


def test_a_remote_that_goes_on_sending_under_demand_is_alive_without_polls() -> None:
    bench = in_demand()
    sent = bench.run(5 * SECOND, hear_every=50 * MS, state=UP)
    assert {p.poll for _, p in sent} == {False}
    assert bench.transitions == []


def test_demand_is_not_asked_of_a_remote_that_can_not_be_polled() -> None:
    """§6.8.7: nothing periodic to a remote with RequiredMinRx 0; a poll would never go out."""
    bench = Bench(DEMAND).up()
    sent = bench.hear(state=UP, required_min_rx_us=0)
    assert [p.demand for p in sent] == [False]
    bench.run(SECOND)
    assert bench.session.state is DOWN  # asynchronous detection is back


def test_demand_switched_on_and_off_live_is_no_flap() -> None:
    bench = settled()
    [packet] = bench.take(bench.session.change(DEMAND, bench.now))
    assert packet.demand
    bench.run(100 * MS)
    [packet] = bench.take(bench.session.change(FAST, bench.now))
    assert not packet.demand
    bench.hear(state=UP)
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    assert bench.transitions == []


def test_timers_change_under_demand_of_both_ends() -> None:
    """Nothing goes out by itself then, so a second change must not wait for a packet between the polls for ever."""
    bench = Bench(DEMAND).up()
    bench.hear(state=UP, demand=True)
    assert not any(p.poll for p in bench.hear(state=UP, demand=True))
    slower = msgspec.structs.replace(DEMAND, desired_min_tx_us=80 * MS)
    bench.take(bench.session.change(slower, bench.now))
    sent = bench.run(200 * MS)  # a detection time after the Final of the first poll
    assert {p.desired_min_tx_us for _, p in sent if p.poll} == {80 * MS}
    bench.hear(state=UP, demand=True, final=True)
    assert bench.session.desired_min_tx_us == 80 * MS


# -- the C bit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), [(False, False), (False, True), (True, False), (True, True)])
def test_rfc5882_4_3_the_down_says_whether_both_ends_were_independent(ours: bool, theirs: bool) -> None:
    bench = Bench(msgspec.structs.replace(FAST, control_plane_independent=ours)).up()
    sent = bench.run(SECOND, hear_every=50 * MS, state=UP, control_plane_independent=theirs)
    assert {p.control_plane_independent for _, p in sent} == {ours}
    bench.run(SECOND)
    assert [t.control_plane_independent for t in bench.transitions] == [ours and theirs]


# -- late packets ---------------------------------------------------------------------------------------------


def test_packets_later_than_one_and_a_half_intervals_are_counted() -> None:
    bench = settled()
    bench.run(70 * MS)
    bench.hear(state=UP)
    assert bench.session.take_late() == (0, 0)
    bench.run(80 * MS)
    bench.hear(state=UP)
    bench.run(120 * MS)
    bench.session.receive_steady(bench.now)
    assert bench.session.take_late() == (2, 120 * MS)
    assert bench.session.take_late() == (0, 0)
    assert bench.session.late_packets == 2


def test_a_silence_that_was_asked_for_is_not_late() -> None:
    bench = in_demand()
    bench.run(140 * MS)
    bench.hear(state=UP)
    assert bench.session.late_packets == 0


# -- the echo function ----------------------------------------------------------------------------------------


def echoing(min_echo_rx_us: int = 10 * MS) -> Bench:
    """Up with a remote that takes echo packets, and has returned the first."""
    bench = Bench(ECHO).up()
    bench.remote = replace(bench.remote, required_min_echo_rx_us=min_echo_rx_us)
    bench.hear(state=UP)
    bench.run(2 * MS)
    [(_, payload)] = bench.echoes
    bench.take(bench.session.receive_echo(payload, bench.now, bench.now))
    return bench


def answer_echoes(bench: Bench, duration: int, rtt_us: int = 3 * MS) -> None:
    """The remote returns every echo packet, and sends control packets once a second."""
    end = bench.now + duration
    next_control = bench.now
    answered = len(bench.echoes)
    while bench.now < end:
        bench.run(rtt_us)
        for at, payload in bench.echoes[answered:]:
            bench.take(bench.session.receive_echo(payload, at + rtt_us, bench.now))
        answered = len(bench.echoes)
        if bench.now >= next_control:
            next_control += 40 * MS
            bench.hear(state=UP, final=bench.session.polling)


def test_rfc5880_6_8_9_no_echo_unless_up_and_wanted_by_the_remote() -> None:
    bench = Bench(ECHO)
    bench.run(SECOND, hear_every=50 * MS, state=DOWN, required_min_echo_rx_us=10 * MS)
    assert bench.echoes == []
    bench = Bench(ECHO).up()
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    assert bench.echoes == []  # Required Min Echo RX Interval is 0


def test_rfc5880_4_1_what_we_take_is_in_our_packets() -> None:
    bench = Bench(ECHO)
    sent = bench.run(60 * MS)
    assert {p.required_min_echo_rx_us for _, p in sent} == {30 * MS}


@pytest.mark.parametrize(("theirs_ms", "expected_ms"), [(10, 20), (20, 20), (40, 40)])
def test_rfc5880_6_8_9_echo_interval_is_the_slower_of_both(theirs_ms: int, expected_ms: int) -> None:
    bench = echoing(theirs_ms * MS)
    bench.echoes.clear()
    answer_echoes(bench, 2 * SECOND)
    gaps = [b - a for (a, _), (b, _) in zip(bench.echoes, bench.echoes[1:], strict=False)]
    assert min(gaps) >= expected_ms * MS * 3 // 4
    assert max(gaps) <= expected_ms * MS
    assert bench.transitions == []


def test_rfc5880_6_8_6_r14_required_min_echo_rx_zero_stops_it() -> None:
    bench = echoing()
    bench.remote = replace(bench.remote, required_min_echo_rx_us=0)
    bench.hear(state=UP)
    bench.echoes.clear()
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    assert bench.echoes == []
    assert bench.transitions == []


def test_rfc5880_6_8_3_control_packets_slow_down_while_echo_works() -> None:
    bench = echoing()
    answer_echoes(bench, SECOND)
    assert bench.session.required_min_rx_us == SECOND
    bench.remote = replace(bench.remote, required_min_echo_rx_us=0)
    bench.run(SECOND, hear_every=50 * MS, state=UP, final=True)
    assert bench.session.required_min_rx_us == 50 * MS
    assert bench.transitions == []


def test_rfc5880_6_8_5_echo_packets_lost_is_down_with_diag_2() -> None:
    bench = echoing()
    answer_echoes(bench, SECOND)
    last_answered = bench.now
    sent = bench.run(SECOND, hear_every=50 * MS, state=UP)
    down = bench.transitions[0]
    assert (down.old, down.new, down.diag, down.blame) == (UP, DOWN, 2, "path-loss")
    # Three intervals of 20 ms after the first that did not come back, which went out within one interval.
    assert 60 * MS <= down.at - last_answered <= 20 * MS + 60 * MS
    assert next(p for at, p in sent if at == down.at).diag == 2


def test_a_remote_that_never_returned_one_is_no_failure() -> None:
    """FRR says that it takes them whether or not anything returns them."""
    bench = Bench(ECHO).up()
    bench.run(5 * SECOND, hear_every=40 * MS, state=UP, required_min_echo_rx_us=10 * MS)
    assert bench.transitions == []
    assert 4 <= len(bench.echoes) <= 8  # tried once a second
    assert bench.session.required_min_rx_us == 50 * MS  # control packets keep their pace meanwhile


def test_a_stall_of_ours_is_no_loss_of_echo_packets() -> None:
    bench = echoing()
    answer_echoes(bench, SECOND)
    (_, last), count = bench.echoes[-1], len(bench.echoes)
    bench.take(bench.session.receive_echo(last, bench.now, bench.now))
    bench.now += 100 * MS  # nobody ran: no echo went out
    bench.hear(state=UP)
    bench.take(bench.session.wake(bench.now))
    assert bench.transitions == []
    assert len(bench.echoes) == count + 1


def test_echo_round_trip_times() -> None:
    echo = Echo(7, Random(1))
    echo.set_interval(50 * MS, 0)
    for number, rtt in enumerate((300, 100, 500)):
        payload = echo.send(number * 1000, 50 * MS)
        assert echo_discriminator(payload) == 7
        assert echo.receive(payload, number * 1000 + rtt)
        assert not echo.receive(payload, number * 1000 + rtt)  # a duplicate
    assert (echo.rtt_min_us, echo.rtt_avg_us, echo.rtt_max_us) == (100, 300, 500)
    assert (echo.sent, echo.received) == (3, 3)


def test_echo_packets_of_others_are_none_of_ours() -> None:
    ours, other = Echo(7, Random(1)), Echo(7, Random(2))
    for echo in (ours, other):
        echo.set_interval(50 * MS, 0)
    payload = ours.send(0, 50 * MS)
    assert not other.receive(payload, 10)  # the same discriminator, without the word that only ours knows
    for cut in range(len(payload)):
        assert not ours.receive(payload[:cut], 10)
    bench = echoing()
    bench.take(bench.session.receive_echo(b"x" * 32, bench.now, bench.now))
    assert bench.session.discards == {"echo": 1}


def test_the_unanswered_are_bounded() -> None:
    echo = Echo(7, Random(1))
    echo.set_interval(10 * MS, 0)
    first = echo.send(0, 10 * MS)
    for number in range(1, 10_000):
        echo.send(number, 10 * MS)
    assert not echo.receive(first, 10_000)


# -- the short way of sending ---------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from([{}, {"poll": True}, {"final": True}, {"demand": True}])),
        st.tuples(st.just("state"), st.sampled_from([DOWN, INIT, UP])),
        st.tuples(st.just("change"), st.sampled_from([FAST, DEMAND, ECHO])),
        st.tuples(st.just("pass"), st.integers(0, 400 * MS)),
    ),
    max_size=30,
)


class ByRules:
    """Every deadline goes to ``Session.wake``."""

    def __init__(self, bench: Bench) -> None:
        self.session = bench.session

    def arm(self) -> None:
        """The session was told something."""

    def turn(self, now: int, late_us: int) -> list[Action]:
        deadline = self.session.next_deadline()
        return [] if deadline is None or deadline > now else self.session.wake(now)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 1000), st.booleans(), st.integers(1, 20))
def test_the_short_way_of_sending_is_the_long_one(
    steps: list[tuple[str, object]], seed: int, ticked: bool, grains_a_turn: int
) -> None:
    """Same random numbers, same events: the same packets at the same times, and the same session in the end."""
    benches = Bench(seed=seed).up(), Bench(seed=seed).up()
    for bench in benches:
        bench.now -= bench.now % GRAIN_US
        bench.session.ticked = ticked
    shells = PulseShell(benches[0].session), ByRules(benches[1])
    for kind, value in steps:
        outcomes = []
        for bench, shell in zip(benches, shells, strict=True):
            sent: list[object] = []
            if kind == "hear":
                assert isinstance(value, dict)
                sent = list(bench.hear(state=UP, **value))
            elif kind == "state":
                sent = list(bench.hear(state=value))
            elif kind == "change":
                assert isinstance(value, Settings)
                sent = list(bench.take(bench.session.change(value, bench.now)))
            else:
                assert isinstance(value, int)
                end = bench.now + value
                while bench.now < end:
                    bench.now += grains_a_turn * GRAIN_US
                    if packets := bench.take(shell.turn(bench.now, LAG_US)):
                        sent.append((bench.now, packets))
            shell.arm()
            outcomes.append((sent, bench.transitions))
        assert outcomes[0] == outcomes[1]
    names = [name for name in Variables.__slots__ if name not in {"rng", "auth", "echo"}]
    assert [getattr(benches[0].session, name) for name in names] == [
        getattr(benches[1].session, name) for name in names
    ]


def test_the_short_way_is_taken_at_all() -> None:
    bench = settled()
    due = bench.session.tx_due
    assert due is not None
    shell = PulseShell(bench.session)
    assert shell.turn(due - 1, LAG_US) == []
    [action] = shell.turn(due + GRAIN_US, LAG_US)
    assert shell.short == 1
    assert isinstance(action, Transmit)
    packet = action.data
    assert packet == push_control(
        ControlPacket(
            state=UP,
            detect_mult=3,
            my_discriminator=5,
            your_discriminator=9,
            desired_min_tx_us=50 * MS,
            required_min_rx_us=50 * MS,
        )
    )
