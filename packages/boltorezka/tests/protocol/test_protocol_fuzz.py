"""The frame decoder against hostile bytes: always a request, or a refusal with a code of the contract."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boltorezka import protocol

WIRE = Path(__file__).parents[4] / "wire"
FRAMES = [
    case["frame"].encode() if isinstance(case["frame"], str) else json.dumps(case["frame"]).encode()
    for name in ("client-valid.json", "client-refused.json", "client-ignored.json")
    for case in json.loads((WIRE / name).read_text())
]
SHORT = [frame for frame in FRAMES if len(frame) < 600]

# Pieces that parsers are known to trip over: cut escapes, surrogates, numbers, not UTF-8, other encodings.
TRAPS = [
    b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"\\u0000", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf",
    b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"1.5e-999",
    b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"/*x*/", b"\xff\xfe{\x00", b'{"type":', b'"type":"auth",',
    b'"payload":null,', b"[" * 2000, b'{"a":' * 2000,
]  # fmt: skip


def judged(frame: bytes) -> protocol.Request | protocol.Refused:
    """Decode, and hold the answer to what is promised of every frame."""
    answer = protocol.decode(frame)
    if isinstance(answer, protocol.Refused):
        assert answer.error.code in {"ValidationError", "UnknownEvent"}
        assert answer.error.message.endswith(".")
        assert len(answer.event_type) <= protocol.MAX_ID
        assert answer.request_id is None or 0 < len(answer.request_id) <= protocol.MAX_ID
        # What is told to the client can be sent to it, and is not an echo of its frame.
        assert len(msgspec.json.encode(answer.error.message)) < 2000
        return answer
    assert isinstance(answer, protocol.Request)
    encoded = protocol.encode_request(answer.said, answer.request_id, answer.idempotency_key)
    encoded.decode()
    assert protocol.decode(encoded) == answer
    return answer


@st.composite
def mutated(draw) -> bytes:
    """A frame of the vectors with a few bytes cut, doubled, changed or put in."""
    frame = bytearray(draw(st.sampled_from(SHORT)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame)))
        match draw(st.integers(0, 3)):
            case 0:
                del frame[at : at + draw(st.integers(1, 8))]
            case 1:
                frame[at:at] = draw(st.sampled_from(TRAPS))
            case 2:
                frame[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
            case _:
                end = draw(st.integers(at, len(frame)))
                frame[at:at] = frame[at:end]
    return bytes(frame)


@given(mutated())
def test_mutated_vectors_are_answered(frame):
    """A frame of the vectors that was damaged on its way is a request or a documented refusal."""
    judged(frame)


@given(st.lists(st.sampled_from(TRAPS), max_size=12).map(b"".join) | st.binary(max_size=400))
@example(b"")
def test_arbitrary_bytes_are_answered(frame):
    """Bytes of any kind are a request or a documented refusal."""
    judged(frame)


JSON_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
).map(json.dumps)
EVENTS = st.sampled_from(sorted(protocol.CLIENT_EVENTS))
FIELDS = sorted(
    {field.encode_name for kind in protocol.CLIENT_PAYLOADS.values() for field in msgspec.structs.fields(kind)}
    | {"epoch", "seq", "roomSlug"}
)


@given(EVENTS, st.lists(st.tuples(st.sampled_from(FIELDS), JSON_TEXT), max_size=6))
def test_every_event_with_any_values_is_answered(event, pairs):
    """Any JSON, NaN and lone surrogates included, in any field of any event, doubled keys included, is answered."""
    payload = ",".join(f'"{name}":{value}' for name, value in pairs)
    frame = f'{{"type":"{event}","requestId":"r1","payload":{{{payload}}}}}'.encode()
    answer = judged(frame)
    assert answer.request_id in {"r1", None}


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":['])
@pytest.mark.parametrize("place", ["frame", "payload", "signal", "unknown field"])
@pytest.mark.parametrize("level", [200, 1_000, 100_000])
def test_deep_nesting_is_answered(opening, place, level):
    """Nesting of any depth, in any place, closed or not, costs a refusal and not the process."""
    closing = opening.replace('"a":', "")[::-1].translate(str.maketrans("[{", "]}"))
    for deep in (opening * level, opening * level + "0" + closing * level):
        frame = {
            "frame": deep,
            "payload": f'{{"type":"chat.send","requestId":"r1","payload":{deep}}}',
            "signal": f'{{"type":"call.offer","requestId":"r1","payload":{{"signal":{deep}}}}}',
            "unknown field": f'{{"type":"ping","requestId":"r1","x":{deep}}}',
        }[place]
        answer = judged(frame.encode())
        if level == 100_000:
            assert isinstance(answer, protocol.Refused)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 60_000, "0." + "3" * 60_000, "1e-999", "-0", "1E5", "1.0"])
@pytest.mark.parametrize("field", ['"room.read","payload":{"seq":%s}', '"call.setup","payload":{"connected":%s}'])
def test_huge_numbers_are_answered(number, field):
    """A number that no machine can hold is an answer, at once."""
    judged(f'{{"type":{field % number}}}'.encode())


def test_doubled_keys_are_one_request():
    """Of two equal keys the last one counts, so a request can never mean two things."""
    first, second = (
        b'"type":"ping","requestId":"a","payload":7',
        b'"type":"chat.send","requestId":"b","payload":{"text":"x"}',
    )
    answer = judged(b"{" + first + b"," + second + b"}")
    assert isinstance(answer, protocol.Request)
    assert (answer.said, answer.request_id) == (protocol.ChatSend("x"), "b")


@pytest.mark.parametrize("size", [protocol.MAX_FRAME - 1, protocol.MAX_FRAME, protocol.MAX_FRAME + 1])
@pytest.mark.parametrize("filling", ["x", "й", "😀", "\\n", "\\u0439"])
def test_frames_of_the_largest_size_are_answered(size, filling):
    """Around 64 KiB a text is too long by characters, and a signal of that size goes through."""
    head, tail = b'{"type":"chat.send","payload":{"text":"', b'"}}'
    count = (size - len(head) - len(tail)) // len(filling.encode())
    assert isinstance(judged(head + filling.encode() * count + tail), protocol.Refused)
    signal = b'{"type":"call.offer","payload":{"signal":"' + filling.encode() * count + b'"}}'
    assert isinstance(judged(signal), protocol.Request)


@pytest.mark.parametrize("event", sorted(protocol.CLIENT_EVENTS))
@pytest.mark.parametrize("payload", ["", "0", '""', "[]", "false", "{", '{"":0}', "[{}]", '{"text"}', "nul"])
def test_every_event_refuses_other_payloads(event, payload):
    """A payload of another kind is refused for every event, and never taken for an empty one."""
    answer = judged(f'{{"type":"{event}","requestId":"r1","payload":{payload}}}'.encode())
    needs_nothing = not any(field.required for field in msgspec.structs.fields(protocol.CLIENT_PAYLOADS[event]))
    assert isinstance(answer, protocol.Request) == (payload == '{"":0}' and needs_nothing)
