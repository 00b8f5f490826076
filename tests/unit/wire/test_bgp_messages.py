"""Framing, OPEN, NOTIFICATION, ROUTE-REFRESH, against the octets of the RFCs."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.wire.capabilities import Capability, four_octet_as, multiprotocol
from bgpbfd.wire.messages import (
    HEADER_LENGTH,
    KEEPALIVE,
    MARKER,
    MessageReader,
    Notification,
    NotificationError,
    Open,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_message,
    encode_notification,
    encode_open,
    encode_route_refresh,
    encode_shutdown_communication,
)
from bgpbfd.wire.notification_text import describe_notification, shutdown_communication

OPEN_HEAD = "04 fdf2 00b4 c000020a"  # version 4, AS 65010, hold 180, 192.0.2.10


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def header(length: int, kind: int) -> bytes:
    return MARKER + length.to_bytes(2, "big") + bytes((kind,))


def read_fault(data: bytes, *, extended: bool = False) -> tuple[int, int, bytes]:
    reader = MessageReader()
    reader.extended = extended
    reader.feed(data)
    with pytest.raises(NotificationError) as caught:
        reader.next_message()
    return caught.value.code, caught.value.subcode, caught.value.data


def open_fault(body: bytes) -> tuple[int, int, bytes]:
    with pytest.raises(NotificationError) as caught:
        decode_open(body)
    return caught.value.code, caught.value.subcode, caught.value.data


# -- framing -----------------------------------------------------------------------------------------------


def test_rfc4271_4_4_keepalive_octets() -> None:
    assert raw("ffffffffffffffffffffffffffffffff 0013 04") == KEEPALIVE
    assert len(KEEPALIVE) == HEADER_LENGTH


def test_rfc4271_6_1_marker_not_all_ones_is_1_1_without_data() -> None:
    for index in range(16):
        broken = bytearray(KEEPALIVE)
        broken[index] = 0xFE
        assert read_fault(bytes(broken)) == (1, 1, b"")


def test_rfc4271_6_1_marker_is_checked_before_length() -> None:
    assert read_fault(b"\0" * 16 + raw("0001 09")) == (1, 1, b"")


@pytest.mark.parametrize(
    ("length", "kind"),
    [(0, 4), (18, 4), (4097, 2), (65535, 3), (28, 1), (22, 2), (20, 3), (22, 5), (20, 4), (4097, 1), (4097, 5)],
)
def test_rfc4271_6_1_bad_length_is_1_2_with_the_length_field(length: int, kind: int) -> None:
    assert read_fault(header(length, kind)) == (1, 2, length.to_bytes(2, "big"))


@pytest.mark.parametrize(("length", "kind"), [(29, 1), (23, 2), (21, 3), (19, 4), (23, 5), (4096, 1), (4096, 2)])
def test_rfc4271_4_1_the_limits_themselves_are_legal(length: int, kind: int) -> None:
    reader = MessageReader()
    reader.feed(header(length, kind) + bytes(length - HEADER_LENGTH))
    assert reader.next_message() == (kind, bytes(length - HEADER_LENGTH))


@pytest.mark.parametrize("kind", [0, 6, 7, 128, 255])
def test_rfc4271_6_1_unknown_type_is_1_3_with_the_type(kind: int) -> None:
    assert read_fault(header(19, kind)) == (1, 3, bytes((kind,)))


@pytest.mark.parametrize("kind", [0, 4, 6, 255])
def test_rfc4271_6_1_length_is_checked_before_type(kind: int) -> None:
    assert read_fault(header(18, kind)) == (1, 2, b"\x00\x12")


def test_rfc4271_6_1_an_unknown_type_may_be_of_any_legal_length() -> None:
    assert read_fault(header(4096, 9)) == (1, 3, b"\x09")
    assert read_fault(header(4097, 9)) == (1, 2, b"\x10\x01")
    assert read_fault(header(65535, 9), extended=True) == (1, 3, b"\x09")


def test_header_fault_is_raised_before_the_body_is_there_and_again() -> None:
    reader = MessageReader()
    reader.feed(header(4097, 2))
    for _ in range(2):
        with pytest.raises(NotificationError):
            reader.next_message()


@pytest.mark.parametrize("kind", [2, 3, 5])
def test_rfc8654_4_extended_length_for_all_but_open_and_keepalive(kind: int) -> None:
    reader = MessageReader()
    reader.extended = True
    reader.feed(header(65535, kind) + bytes(65516))
    assert reader.next_message() == (kind, bytes(65516))


@pytest.mark.parametrize(("length", "kind"), [(4097, 1), (20, 4), (4097, 4)])
def test_rfc8654_4_open_and_keepalive_keep_their_limits(length: int, kind: int) -> None:
    assert read_fault(header(length, kind), extended=True) == (1, 2, length.to_bytes(2, "big"))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), st.lists(st.integers(1, 80), min_size=1, max_size=60))
@settings(max_examples=60)
def test_messages_survive_any_cutting_of_the_stream(sizes: list[int], cuts: list[int]) -> None:
    messages = [(3, bytes((index,)) * (size + 2)) for index, size in enumerate(sizes)]
    stream = b"".join(encode_message(kind, body) for kind, body in messages)
    reader = MessageReader()
    got: list[tuple[int, bytes]] = []
    position = turn = 0
    while position < len(stream):
        cut = cuts[turn % len(cuts)]
        reader.feed(stream[position : position + cut])
        position += cut
        turn += 1
        if turn % 3:  # not drained after every piece
            while (message := reader.next_message()) is not None:
                got.append(message)
    while (message := reader.next_message()) is not None:
        got.append(message)
    assert got == messages


def test_one_octet_pieces_of_a_long_message_are_not_copied_each_time() -> None:
    reader = MessageReader()
    reader.extended = True
    message = header(65535, 2) + bytes(65516)
    for octet in message[:-1]:
        reader.feed(bytes((octet,)))
        assert reader.next_message() is None
    reader.feed(message[-1:])
    assert reader.next_message() == (2, bytes(65516))


@given(st.binary(max_size=120), st.booleans())
def test_any_octets_raise_nothing_but_notification_errors(data: bytes, aligned: bool) -> None:
    reader = MessageReader()
    reader.feed((MARKER if aligned else b"") + data)
    with contextlib.suppress(NotificationError):
        while reader.next_message() is not None:
            pass


# -- OPEN --------------------------------------------------------------------------------------------------


def test_rfc4271_4_2_open_octets() -> None:
    sent = encode_open(Open(65010, 180, 0xC000020A, (multiprotocol(IPV4_UNICAST), four_octet_as(65010))))
    assert sent[16:] == raw("002b 01" + OPEN_HEAD + "0e 02 0c 01 04 0001 00 01 41 04 0000fdf2")


def test_rfc4271_4_2_open_without_parameters() -> None:
    assert decode_open(raw(OPEN_HEAD + "00")) == Open(65010, 180, 0xC000020A)
    assert encode_open(Open(65010, 180, 0xC000020A))[19:] == raw(OPEN_HEAD + "00")


@pytest.mark.parametrize("size", range(10))
def test_rfc4271_6_2_short_open_is_1_2(size: int) -> None:
    assert open_fault(bytes(size)) == (1, 2, (19 + size).to_bytes(2, "big"))


@pytest.mark.parametrize("version", [0, 3, 5, 255])
def test_rfc4271_6_2_other_version_is_2_1_with_ours(version: int) -> None:
    assert open_fault(bytes((version,)) + raw("fdf2 00b4 c000020a 00")) == (2, 1, b"\x00\x04")


def test_rfc4271_6_2_version_comes_before_parameters() -> None:
    assert open_fault(raw("03 fdf2 00b4 c000020a 05 02"))[:2] == (2, 1)


@pytest.mark.parametrize(
    "parameters",
    [
        "01",  # a length, and nothing
        "02 02",  # parameter without its length
        "03 02 02 41",  # parameter runs past the end
        "03 02 01 41",  # capability without its length
        "04 02 02 41 04",  # capability runs past its parameter
        "00 02 00",  # octets past the parameters
        "ff ff",  # RFC 9072 without its length
        "ff ff 0004 02 0001",  # RFC 9072, cut
    ],
)
def test_rfc4271_6_2_malformed_parameters_are_2_0(parameters: str) -> None:
    assert open_fault(raw(OPEN_HEAD + parameters)) == (2, 0, b"")


@pytest.mark.parametrize("kind", [0, 1, 3, 254])
def test_rfc4271_6_2_unknown_parameter_is_2_4(kind: int) -> None:
    assert open_fault(raw(OPEN_HEAD) + bytes((2, kind, 0)))[:2] == (2, 4)


def test_rfc5492_4_several_parameters_with_several_capabilities_each() -> None:
    got = decode_open(raw(OPEN_HEAD + "10 02 08 01 04 0001 00 01 02 00 02 00 02 02 46 00"))
    assert got.capabilities == (Capability(1, raw("00010001")), Capability(2), Capability(70))


def test_rfc5492_3_unknown_capabilities_are_kept_not_refused() -> None:
    assert decode_open(raw(OPEN_HEAD + "06 02 04 80 02 beef")).capabilities == (Capability(128, raw("beef")),)


@pytest.mark.parametrize("length", ["ff", "01"])
def test_rfc9072_2_extended_parameters_are_read(length: str) -> None:
    got = decode_open(raw(OPEN_HEAD + length + "ff 0009 02 0006 41 04 0000fdf2"))
    assert got.capabilities == (four_octet_as(65010),)


def test_rfc9072_2_a_length_of_zero_is_not_the_extended_form() -> None:
    assert open_fault(raw(OPEN_HEAD + "00 ff 0000"))[:2] == (2, 0)


def test_rfc9072_2_extended_form_is_written_only_when_needed() -> None:
    fits = Open(1, 90, 1, (Capability(128, bytes(251)),))
    assert encode_open(fits)[28] == 255
    assert encode_open(fits)[29:31] == raw("02 fd")
    longer = Open(1, 90, 1, (Capability(128, bytes(252)),))
    assert encode_open(longer)[28:38] == raw("ff ff 0101 02 00fe 80 fc 00")
    assert decode_open(encode_open(longer)[19:]) == longer


def test_rfc9072_2_several_parameters_in_the_extended_form() -> None:
    got = decode_open(raw(OPEN_HEAD + "ff ff 0014  02 0006 41 04 0000fdf2  02 0000  02 0005 02 00 80 01 ff"))
    assert got.capabilities == (four_octet_as(65010), Capability(2), Capability(128, b"\xff"))


@pytest.mark.parametrize("parameters", ["ff ff 0003 01 0000", "ff ff 0004 04 0001 ff"])
def test_rfc9072_2_an_unknown_parameter_in_the_extended_form_is_2_4(parameters: str) -> None:
    assert open_fault(raw(OPEN_HEAD + parameters))[:2] == (2, 4)


@pytest.mark.parametrize(
    "parameters",
    [
        "ff ff 0002 02 00",  # half a parameter length
        "ff ff 0004 02 0002 41",  # parameter runs past the end
        "ff ff 0005 02 0002 41 04",  # capability runs past its parameter
        "ff ff 0003 02 0000 00",  # octets past the parameters
        "ff ff 00",
    ],
)
def test_rfc9072_2_malformed_extended_parameters_are_2_0(parameters: str) -> None:
    assert open_fault(raw(OPEN_HEAD + parameters)) == (2, 0, b"")


def test_rfc4271_4_2_the_values_are_left_to_the_negotiation() -> None:
    """AS 0, hold time 1, identifier 0: each has a verdict of its own, in the order of §6.2."""
    assert decode_open(raw("04 0000 0001 00000000 00")) == Open(0, 1, 0)


def test_an_open_over_4096_octets_is_refused_here() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode_open(Open(1, 90, 1, (Capability(128, bytes(255)),) * 16))


@given(
    st.builds(
        Open,
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.integers(0, 2**32 - 1),
        st.lists(st.builds(Capability, st.integers(0, 255), st.binary(max_size=80)), max_size=20).map(tuple),
    )
)
@settings(max_examples=80)
def test_open_round_trip(message: Open) -> None:
    reader = MessageReader()
    reader.feed(encode_open(message))
    got = reader.next_message()
    assert got is not None
    assert got[0] == 1
    assert decode_open(got[1]) == message


@given(st.binary(max_size=60), st.booleans())
def test_any_open_raises_nothing_but_notification_errors(data: bytes, plausible: bool) -> None:
    with contextlib.suppress(NotificationError):
        decode_open((raw(OPEN_HEAD) if plausible else b"") + data)


# -- NOTIFICATION ------------------------------------------------------------------------------------------


def test_rfc4271_4_5_notification_octets() -> None:
    assert encode_notification(Notification(6, 10)) == MARKER + raw("0015 03 06 0a")
    assert decode_notification(raw("02 01 0004")) == Notification(2, 1, raw("0004"))


def test_short_notification_is_1_2() -> None:
    with pytest.raises(NotificationError) as caught:
        decode_notification(b"\x06")
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (1, 2, b"\x00\x14")


def test_notification_data_is_cut_to_the_message_limit() -> None:
    assert len(encode_notification(Notification(3, 1, bytes(70000)))) == 4096


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300))
def test_notification_round_trip_and_description(code: int, subcode: int, data: bytes) -> None:
    message = Notification(code, subcode, data)
    assert decode_notification(encode_notification(message)[19:]) == message
    text = describe_notification(message)
    assert text
    assert text.isprintable()


def test_rfc9003_2_shutdown_communication_octets() -> None:
    assert encode_shutdown_communication("maintenance") == b"\x0bmaintenance"
    assert encode_shutdown_communication("") == b""


def test_rfc9003_2_cut_between_characters() -> None:
    data = encode_shutdown_communication("a" + "é" * 100)  # 201 octets
    assert data[0] == 127
    assert data[1:].decode() == "a" + "é" * 63
    assert encode_shutdown_communication("é" * 200, 255)[0] == 254
    assert encode_shutdown_communication("x" * 400, 1000)[0] == 255


@pytest.mark.parametrize("subcode", [2, 4])
def test_rfc9003_2_shutdown_communication_is_read_and_sanitised(subcode: int) -> None:
    said = "a\x1b[31mb\n\u202ec".encode() + b"\xff"
    got = shutdown_communication(Notification(6, subcode, bytes((len(said),)) + said))
    assert got == "a[31mbc\ufffd"


@pytest.mark.parametrize(
    "message",
    [Notification(6, 2), Notification(6, 2, b"\0"), Notification(6, 3, b"\x01x"), Notification(2, 2, b"\x01x")],
)
def test_no_shutdown_communication(message: Notification) -> None:
    assert shutdown_communication(message) is None


def test_rfc9003_lying_length_gives_what_is_there() -> None:
    assert shutdown_communication(Notification(6, 2, b"\xffbye")) == "bye"
    assert shutdown_communication(Notification(6, 2, b"\x02bye")) == "by"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Notification(6, 2, b"\x0bmaintenance"), 'Cease, Administrative Shutdown: "maintenance"'),
        (Notification(2, 2), "OPEN Message Error, Bad Peer AS"),
        (Notification(6, 10), "Cease, BFD Down"),
        (Notification(6, 9, b"\x06\x0a"), "Cease, Hard Reset (Cease, BFD Down)"),
        (Notification(6, 9, b"\x06\x02\x02hi"), 'Cease, Hard Reset (Cease, Administrative Shutdown: "hi")'),
        (Notification(6, 9, b"\x06\x09" * 40), "Cease, Hard Reset"),
        (Notification(4, 0), "Hold Timer Expired"),
        (Notification(2, 5), "OPEN Message Error, Authentication Failure"),
        (Notification(3, 7), "UPDATE Message Error, AS Routing Loop"),
        (Notification(3, 11), "UPDATE Message Error, Malformed AS_PATH"),
        (Notification(6, 77), "Cease, subcode 77"),
        (Notification(77, 5), "code 77, subcode 5"),
        (Notification(7, 1, b"x"), "ROUTE-REFRESH Message Error, Invalid Message Length"),
        (Notification(8, 0), "Send Hold Timer Expired"),
        (Notification(5, 3), "Finite State Machine Error, Unexpected Message in Established State"),
        (Notification(5, 0), "Finite State Machine Error"),
        (Notification(6, 8), "Cease, Out of Resources"),
    ],
)
def test_notifications_in_words(message: Notification, text: str) -> None:
    assert describe_notification(message) == text


@pytest.mark.parametrize(
    ("code", "subcode", "data", "words"),
    [
        # RFC 4271 §6.1, §6.2
        (1, 2, "0012", "length 18"),
        (1, 3, "09", "type 9"),
        (2, 1, "0004", "supported is version 4"),
        (2, 1, "0400", "supported is version 4"),
        (2, 1, "04", "supported is version 4"),
        (2, 2, "fde9", "AS 65001"),
        (2, 2, "0001fde9", "AS 130537"),
        (2, 3, "c0000201", "192.0.2.1"),
        (2, 6, "0001", "1 s"),
        # RFC 5492 §5
        (2, 7, "0104 0002 0001 4104 0000fde9", "multiprotocol ipv6 unicast, 4-octet AS 65001"),
        (2, 7, "c801aa", "capability 200: 0xaa"),
        (2, 7, "0200 4906 03611b62 0163", "route refresh, host name ab.c"),
        # RFC 4271 §6.3
        (3, 2, "40630107", "attribute 99"),
        (3, 3, "03", "NEXT_HOP"),
        (3, 3, "05", "LOCAL_PREF"),
        (3, 4, "c0010100", "ORIGIN"),
        (3, 5, "4003 03 c00002", "NEXT_HOP"),
        (3, 6, "40010107", "ORIGIN"),
        (3, 8, "400304e0000001", "NEXT_HOP"),
        (3, 9, "800e0000", "MP_REACH_NLRI"),
        (3, 9, "900f ffff", "MP_UNREACH_NLRI"),
        # RFC 6608 §3
        (5, 1, "02", "UPDATE"),
        (5, 2, "05", "ROUTE-REFRESH"),
        (5, 3, "01", "OPEN"),
        (5, 0, "ff", "type 255"),
        # RFC 4486 §4
        (6, 1, "0001 01 00000064", "ipv4 unicast, at most 100"),
        (6, 1, "0019 46 ffffffff", "afi 25 safi 70, at most 4294967295"),
        (6, 9, "06 01 0002 01 00000005", None),
        # RFC 7313 §5
        (7, 1, "ff" * 16 + "001805 0001 01 01 00", "subtype 1 of ipv4 unicast in 24 octets"),
    ],
)
def test_the_data_of_a_notification_in_words(code: int, subcode: int, data: str, words: str | None) -> None:
    head = describe_notification(Notification(code, subcode))
    got = describe_notification(Notification(code, subcode, bytes.fromhex(data)))
    if words is None:  # RFC 8538 §3.1: the inner one's words
        inner = "Cease, Maximum Number of Prefixes Reached: ipv6 unicast, at most 5"
        assert got == f"Cease, Hard Reset ({inner})"
    else:
        assert got == f"{head}: {words}"


@pytest.mark.parametrize(
    ("code", "subcode", "data"),
    [
        (1, 1, "ff"), (1, 2, "00"), (1, 3, "0901"), (2, 1, "000400"), (2, 2, "fd"), (2, 3, "c00002"), (2, 6, "5a"),
        (2, 7, "01"), (2, 7, "0104 0001"), (3, 1, "40010100"), (3, 2, "40"), (3, 3, "0300"), (3, 5, "4003"),
        (3, 10, "21"), (3, 11, "4002"), (4, 0, "00"), (5, 3, "0100"), (6, 1, "0001"), (6, 1, "0001 01 00000064 00"),
        (6, 5, "00"), (6, 10, "00"), (7, 1, "0001 01 01"), (8, 0, "00"),
    ],
)  # fmt: skip
def test_data_that_says_nothing_known_is_left_out(code: int, subcode: int, data: str) -> None:
    bare = describe_notification(Notification(code, subcode))
    assert describe_notification(Notification(code, subcode, bytes.fromhex(data))) == bare


@pytest.mark.parametrize("capability", ["4920" + "1f" + "1b5d303b" * 7 + "e280ae" + "00", "c8ff" + "00" * 255, "0200"])
def test_the_words_of_data_are_printable_and_short(capability: str) -> None:
    text = describe_notification(Notification(2, 7, bytes.fromhex(capability) * 15))
    assert text.startswith("OPEN Message Error, Unsupported Capability: ")
    assert text.isprintable()
    assert len(text) < 300


# -- ROUTE-REFRESH -----------------------------------------------------------------------------------------


def test_rfc2918_3_route_refresh_octets() -> None:
    assert encode_route_refresh(RouteRefresh(IPV6_UNICAST)) == MARKER + raw("0017 05 0002 00 01")
    assert decode_route_refresh(raw("0002 01 01")) == RouteRefresh(IPV6_UNICAST, 1)
    assert decode_route_refresh(raw("4004 09 47")) == RouteRefresh(Family(0x4004, 0x47), 9)


def test_rfc5291_filters_after_a_plain_request_are_ignored() -> None:
    assert decode_route_refresh(raw("0001 00 01 01 40 0000")) == RouteRefresh(IPV4_UNICAST, 0)


@pytest.mark.parametrize("subtype", [1, 2])
def test_rfc7313_5_borr_or_eorr_of_wrong_length_is_7_1_with_the_message(subtype: int) -> None:
    body = raw("0001") + bytes((subtype, 1, 0))
    with pytest.raises(NotificationError) as caught:
        decode_route_refresh(body)
    error = caught.value
    assert (error.code, error.subcode, error.data) == (7, 1, MARKER + raw("0018 05") + body)


def test_short_route_refresh_is_1_2() -> None:
    with pytest.raises(NotificationError) as caught:
        decode_route_refresh(raw("0001"))
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (1, 2, b"\x00\x15")


# -- many at once ------------------------------------------------------------------------------------------

_MESSAGES = st.one_of(
    st.builds(lambda body: encode_message(2, body), st.binary(min_size=4, max_size=60)),
    st.builds(lambda length: encode_message(2, bytes(length)), st.sampled_from([3, 4077, 4078, 5000])),
    st.just(KEEPALIVE),
    st.builds(encode_message, st.integers(0, 6), st.binary(max_size=12)),
)


def _told(reader: MessageReader, data: bytes, cuts: list[int], at_once: bool) -> list[object]:
    """What comes out of ``data`` in pieces, and the fault that ends it with the header that shows it."""
    told: list[object] = []
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    try:
        for start, end in itertools.pairwise(places):
            reader.feed(data[start:end])
            if at_once:
                told.extend(reader.messages())
            else:
                while (message := reader.next_message()) is not None:
                    told.append(message)
            told.append("no more")
    except NotificationError as error:
        told.append((error.code, error.subcode, error.data, error.reason, reader.header()))
    return told


@settings(max_examples=500)
@given(
    st.lists(_MESSAGES, max_size=8),
    st.lists(st.integers(0, 400), max_size=6),
    st.none() | st.tuples(st.integers(0, 300), st.integers(0, 255)),
    st.booleans(),
)
def test_all_messages_are_those_that_come_one_by_one(
    messages: list[bytes], cuts: list[int], damage: tuple[int, int] | None, extended: bool
) -> None:
    stream = bytearray(b"".join(messages))
    if damage is not None and damage[0] < len(stream):
        stream[damage[0]] = damage[1]
    told = []
    for at_once in (True, False):
        reader = MessageReader()
        reader.extended = extended
        told.append(_told(reader, bytes(stream), cuts, at_once))
    got, one_by_one = told
    # Where a fault is, the same messages come before it
    assert [item for item in got if item != "no more"] == [item for item in one_by_one if item != "no more"]


def test_messages_that_nobody_took_are_there_the_next_time() -> None:
    reader = MessageReader()
    reader.feed(encode_message(2, bytes(4)) + encode_message(2, bytes(5)) + KEEPALIVE)
    for message in reader.messages():
        assert message == (2, bytes(4))
        break
    assert list(reader.messages()) == [(2, bytes(5)), (4, b"")]


@pytest.mark.parametrize(("at", "octet"), [(0, 0), (15, 0xFE), (17, 22), (17, 18), (16, 0x20), (18, 9)])
def test_a_fault_in_the_midst_of_many_is_found(at: int, octet: int) -> None:
    good = encode_message(2, bytes(10))
    bad = good[:at] + bytes((octet,)) + good[at + 1 :]
    reader = MessageReader()
    reader.feed(good * 3 + bad + good)
    with pytest.raises(NotificationError) as caught:
        list(reader.messages())
    assert (caught.value.code, caught.value.subcode, caught.value.data) == read_fault(bad)
    assert reader.header() == bad[:HEADER_LENGTH]
