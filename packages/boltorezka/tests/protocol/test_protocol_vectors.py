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
    if case["status"] >= 400:
        assert {"error", "message", "retryable"} <= body.keys()
    for key in body:
        assert "_" not in key
    assert ".678Z" in json.dumps(body) or "Z" not in json.dumps(body)


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
