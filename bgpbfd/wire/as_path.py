"""AS paths: segments, their octets, and the 2-octet detour (RFC 4271 §4.3, RFC 5065, RFC 6793, RFC 7607)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from bgpbfd.wire.iana import AS_TRANS, SegmentType, UpdateSubcode

_AS2 = tuple(Struct(f"!{count}H") for count in range(256))
_AS4 = tuple(Struct(f"!{count}I") for count in range(256))
MAX_SEGMENT_ASNS = 255  # RFC 4271 §4.3 b): the count is one octet
CONFED_KINDS = frozenset({int(SegmentType.AS_CONFED_SEQUENCE), int(SegmentType.AS_CONFED_SET)})


class Segment(NamedTuple):
    """An AS_PATH segment: ``kind`` of SegmentType, ``asns`` in path order."""

    kind: int
    asns: tuple[int, ...]


class MalformedAttribute(ValueError):
    """A value that its attribute's definition forbids; ``subcode`` of UPDATE Message Error is RFC 4271 §6.3's."""

    def __init__(self, subcode: UpdateSubcode, reason: str) -> None:
        super().__init__(reason)
        self.subcode = subcode
        self.reason = reason


def pull_as_path(value: bytes, asn4: bool) -> tuple[Segment, ...]:
    """AS_PATH and AS4_PATH segments (RFC 7606 §7.2, RFC 7607 §2); raises MalformedAttribute 3/11."""
    structs, width = (_AS4, 4) if asn4 else (_AS2, 2)
    segments: list[Segment] = []
    position = 0
    end = len(value)
    while position < end:
        if end - position < 2:
            raise MalformedAttribute(UpdateSubcode.MALFORMED_AS_PATH, "one octet left after the last segment")
        kind = value[position]
        count = value[position + 1]
        if not 1 <= kind <= 4:
            raise MalformedAttribute(UpdateSubcode.MALFORMED_AS_PATH, f"segment type {kind}")
        if count == 0:
            raise MalformedAttribute(UpdateSubcode.MALFORMED_AS_PATH, "empty segment")
        position += 2
        if position + count * width > end:
            raise MalformedAttribute(UpdateSubcode.MALFORMED_AS_PATH, f"segment of {count} runs past the end")
        asns = structs[count].unpack_from(value, position)
        if 0 in asns:
            raise MalformedAttribute(UpdateSubcode.MALFORMED_AS_PATH, "AS 0")
        segments.append(Segment(kind, asns))
        position += count * width
    return tuple(segments)


def push_as_path(path: Sequence[Segment], asn4: bool) -> bytes:
    """Segments of more than 255 ASes are split; empty ones left out; ASes over 65535 become AS_TRANS where 2 octets."""
    parts: list[bytes] = []
    for kind, asns in path:
        for start in range(0, len(asns), MAX_SEGMENT_ASNS):
            chunk = asns[start : start + MAX_SEGMENT_ASNS]
            if asn4:
                octets = _AS4[len(chunk)].pack(*chunk)
            else:
                octets = _AS2[len(chunk)].pack(*[asn if asn <= 0xFFFF else AS_TRANS for asn in chunk])
            parts.append(bytes((kind, len(chunk))) + octets)
    return b"".join(parts)


def is_wide(path: Sequence[Segment]) -> bool:
    """Whether an AS of ``path`` does not fit 2 octets."""
    return any(asn > 0xFFFF for segment in path for asn in segment.asns)


def path_length(path: Sequence[Segment]) -> int:
    """ASes counted as RFC 4271 §9.1.2.2 a and RFC 5065 §5.3 do: a set is one, confederation segments are none."""
    total = 0
    for kind, asns in path:
        if kind == SegmentType.AS_SEQUENCE:
            total += len(asns)
        elif kind == SegmentType.AS_SET:
            total += 1
    return total


def prepend(asns: Sequence[int], path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """``asns`` before ``path``, the first one leftmost: RFC 4271 §5.1.2 b, into a leading AS_SEQUENCE with room, else
    as segments of their own."""
    rest = list(asns)
    segments = list(path)
    while rest:
        if not segments or segments[0].kind != SegmentType.AS_SEQUENCE or len(segments[0].asns) >= MAX_SEGMENT_ASNS:
            segments.insert(0, Segment(SegmentType.AS_SEQUENCE, ()))
        head = segments[0]
        room = MAX_SEGMENT_ASNS - len(head.asns)
        segments[0] = Segment(head.kind, (*rest[-room:], *head.asns))
        del rest[-room:]
    return tuple(segments)


def merge_as4_path(path: tuple[Segment, ...], as4_path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """RFC 6793 §4.2.3: the surplus head of AS_PATH, then AS4_PATH; AS_PATH alone when AS4_PATH is the longer one."""
    surplus = path_length(path) - path_length(as4_path)
    if surplus < 0:
        return path
    merged: list[Segment] = []
    for segment in path:
        if segment.kind in CONFED_KINDS:
            merged.append(segment)  # leading, or adjacent to one that is taken over
            continue
        if surplus == 0:
            break
        if segment.kind == SegmentType.AS_SET:
            merged.append(segment)
            surplus -= 1
        else:
            taken = segment.asns[:surplus]
            merged.append(Segment(segment.kind, taken))
            surplus -= len(taken)
            if len(taken) < len(segment.asns):
                break
    rest = list(as4_path)
    if merged and merged[-1].kind == rest[0].kind == SegmentType.AS_SEQUENCE:
        merged[-1] = Segment(SegmentType.AS_SEQUENCE, merged[-1].asns + rest.pop(0).asns)
    return tuple(merged + rest)
