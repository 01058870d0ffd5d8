"""The codec against the golden vectors of wire/, and what every frame must be."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka import protocol
from boltorezka.errors import ValidationError
from boltorezka.rooms.connection import refuse

WIRE = Path(__file__).parents[4] / "wire"


def cases(name: str) -> list:
    """The cases of a file, named for pytest."""
    return [pytest.param(case, id=case["name"]) for case in json.loads((WIRE / name).read_text())]


def raw(frame: object) -> bytes:
    """The bytes of a vector's frame."""
    return frame.encode() if isinstance(frame, str) else json.dumps(frame).encode()


@pytest.mark.parametrize("case", cases("client-refused.json"))
def test_refused_frames_get_the_answer_of_the_vector(case):
    """A frame that cannot be obeyed is answered by exactly the nack or error of the vector, in a whole sentence."""
    refused = protocol.decode(raw(case["frame"]))
    assert isinstance(refused, protocol.Refused)
    answer = json.loads(refuse(1, refused.request_id, refused.event_type, refused.error, 0).frame)
    expect = case["expect"]
    assert (answer["type"], answer["payload"]["code"]) == (expect["answer"], expect["code"])
    assert answer["payload"].get("requestId") == expect.get("requestId")
    assert answer["payload"].get("eventType") == expect.get("eventType")
    assert answer["payload"]["message"].endswith(".")


@pytest.mark.parametrize("case", cases("client-valid.json"))
def test_valid_frames_mean_what_the_vector_says(case):
    """A valid frame decodes to the vector's meaning, and encoding that meaning again changes nothing."""
    request = protocol.decode(raw(case["frame"]))
    assert isinstance(request, protocol.Request), request
    encoded = protocol.encode_request(request.said, request.request_id, request.idempotency_key)
    assert json.loads(encoded) == case["means"]
    assert protocol.decode(encoded) == request


@pytest.mark.parametrize("case", cases("client-ignored.json"))
def test_unknown_fields_of_clients_are_ignored(case):
    """A frame with unknown fields means what it means without them."""
    assert protocol.decode(raw(case["frame"])) == protocol.decode(raw(case["same_as"]))


@pytest.mark.parametrize("case", cases("client-closed.json"))
def test_closes_have_a_code_and_a_reason(case):
    """Every close of the vectors has its code in the protocol, and the error before it its name."""
    assert protocol.CloseCode(case["close"])
    assert case["error"] in {None, protocol.REASONS[case["close"]]}


@pytest.mark.parametrize("case", cases("server.json"))
def test_server_frames_are_encoded_as_the_vector(case):
    """A server frame is read by the client's codec, and encoding what was read gives the vector, field by field."""
    payload = protocol.decode_server(raw(case["frame"]))
    assert payload is not None
    assert json.loads(protocol.encode(payload)) == case["frame"]


@pytest.mark.parametrize("case", cases("server-ignored.json"))
def test_clients_ignore_what_they_do_not_know(case):
    """Unknown event types are passed over and unknown fields ignored."""
    expect = case["expect"]
    assert protocol.decode_server(raw(case["frame"])) == (expect and protocol.decode_server(raw(expect)))


def test_a_malformed_server_frame_is_an_error():
    """A client that cannot read a frame says so."""
    with pytest.raises(ValidationError):
        protocol.decode_server(b'{"type":"pong","payload":{"ts":7}}')


@pytest.mark.parametrize("case", cases("http.json"))
def test_http_examples_keep_to_the_conventions(case):
    """Error bodies have error, message and retryable; rows are snake_case, envelopes camelCase, times end in Z."""
    body = case["body"]
    if case["status"] >= 400 and "checks" not in (body or {}) and not case["route"].startswith("HEAD"):
        assert {"error", "message", "retryable"} <= body.keys()
    if case["status"] in {204, 302} or case["route"].startswith("HEAD"):
        assert body is None
    for key in body if isinstance(body, dict) else ():
        assert "_" not in key
    assert ".678Z" in json.dumps(body) or "Z" not in json.dumps(body)


# By hand from the contract, section 3: what a vector is needed for.
CLIENT_EVENTS = [
    "ping", "room.join", "room.leave", "chat.send", "chat.edit", "chat.delete", "chat.typing", "room.read",
    "resume", "call.join", "call.leave", "call.offer", "call.answer", "call.ice", "call.reject",
    "call.hangup", "call.mic_state", "call.moderate", "auth",
]  # fmt: skip
SERVER_EVENTS = [
    "pong", "ack", "nack", "error", "room.joined", "room.delta", "room.reset", "room.presence",
    "presence.joined", "presence.left", "room.left", "chat.message", "chat.edited", "chat.deleted",
    "chat.typing", "call.joined", "call.offer", "call.answer", "call.ice", "call.reject", "call.hangup",
    "call.mic_state", "server.ready", "server.heartbeat", "server.draining", "call.initial_state",
]  # fmt: skip
NACK_CODES = [
    "UnknownEvent", "ValidationError", "NoActiveRoom", "RoomNotFound", "Forbidden", "MessageNotFound",
    "EditWindowExpired", "DeleteWindowExpired", "IdempotencyConflict", "RateLimited", "TargetNotInRoom",
    "VoiceFull", "ServerError",
]  # fmt: skip
CLOSE_CODES = [4001, 4002, 4003, 4008, 4009, 4012, 1009]


def test_every_event_of_the_contract_has_a_vector():
    """Each event a client may send has a valid and a refused vector and an ack, each event of the server one."""
    valid = {case.values[0]["means"]["type"] for case in cases("client-valid.json")}
    refused = {case.values[0]["expect"].get("eventType") for case in cases("client-refused.json")}
    heard = [case.values[0]["frame"] for case in cases("server.json")]
    acked = {frame["payload"]["eventType"] for frame in heard if frame["type"] == "ack"}
    known = set(CLIENT_EVENTS) | set(protocol.CLIENT_PAYLOADS)
    assert known == valid == set(protocol.CLIENT_PAYLOADS)
    assert known <= refused
    assert known <= acked
    said = set(SERVER_EVENTS) | set(protocol.SERVER_PAYLOADS)
    assert said == {frame["type"] for frame in heard} == set(protocol.SERVER_PAYLOADS)


def test_every_code_of_the_contract_has_a_vector():
    """Each nack code and each close code of the contract is in a vector."""
    heard = [case.values[0]["frame"] for case in cases("server.json")]
    nacked = {frame["payload"]["code"] for frame in heard if frame["type"] == "nack"}
    assert nacked >= set(NACK_CODES)
    closes = {case.values[0]["close"] for case in cases("client-closed.json")}
    assert closes >= set(CLOSE_CODES)


def test_a_signal_with_a_broken_byte_goes_to_nobody():
    """A signal is relayed as it came, so bytes that are not UTF-8 are refused with the frame that holds them."""
    frame = b'{"type":"call.offer","requestId":"r1","payload":{"signal":"\xff"}}'
    refused = protocol.decode(frame)
    assert isinstance(refused, protocol.Refused)
    assert refused.error.code == "ValidationError"


@pytest.mark.parametrize("level", [100_000])
def test_a_server_frame_nested_too_deeply_is_an_error(level):
    """A client reads signals of others: one that is nested beyond reason is malformed, not a crash."""
    signal = "[" * level + "]" * level
    frame = f"""{{"type":"call.offer","payload":{{"fromUserId":"u","fromUserName":"u","fromSeatId":"s","roomId":"r",
        "roomSlug":"g","ts":"t","signal":{signal}}}}}"""
    with pytest.raises(ValidationError):
        protocol.decode_server(frame)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_decoding_never_raises(frame):
    """Whatever arrives, the codec answers with a request or a refusal."""
    assert isinstance(protocol.decode(frame), protocol.Request | protocol.Refused)


FIELDS = st.sampled_from(
    ["type", "requestId", "idempotencyKey", "payload", "text", "roomSlug", "after", "epoch", "seq"]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
)


@given(ANY_JSON)
def test_decoding_any_json_never_raises(value):
    """JSON of any shape, with our own field names in it, is answered too."""
    assert isinstance(protocol.decode(msgspec.json.encode(value)), protocol.Request | protocol.Refused)


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_are_utc_with_milliseconds(at):
    """A time is the moment it stands for, cut to milliseconds."""
    text = protocol.iso_time(at)
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert round(moment.timestamp() * 1000) == at // 1000
    assert len(text) == 24


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_a_presence_frame_is_the_encoding_of_its_payload(users):
    """Put together from encoded people, the frame is byte for byte that of the whole list."""
    people = tuple(protocol.PresentUser(user_id, name) for user_id, name in users.items())
    whole = protocol.encode(protocol.RoomPresence("r1", "general", people))
    assert protocol.encode_presence("r1", "general", users) == whole
