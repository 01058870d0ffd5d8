"""The two documents for machines against the golden vectors: they allow what is said, and not what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis

from boltorezka.protocol import CLIENT_PAYLOADS, SERVER_PAYLOADS, CloseCode
from boltorezka.protocol.asyncapi import ACK_FIELDS, CLOSES, NACKS, asyncapi_document

ROOT = Path(__file__).parents[4]
# The published one has the routes of every way of signing in; that it is up to date is another test's business.
OPENAPI = json.loads((ROOT / "docs/reference/openapi.json").read_text())
ASYNCAPI = asyncapi_document()


def vectors(name: str) -> list[dict]:
    """The cases of a file."""
    return json.loads((ROOT / "wire" / name).read_text())


def named(cases: list[dict]) -> list:
    """The cases, named for pytest."""
    return [pytest.param(case, id=case["name"]) for case in cases]


def validator(document: dict, reference: str) -> jsonschema_rs.Draft202012Validator:
    """Judges by the schema at this place of the document."""
    return jsonschema_rs.Draft202012Validator({"$ref": reference, **document})


CLIENT = validator({"components": ASYNCAPI["components"]}, "#/components/schemas/ClientFrame")
SERVER = validator({"components": ASYNCAPI["components"]}, "#/components/schemas/ServerFrame")

# Refused for their bytes; as values these are fine, or there is no value.
OF_BYTES = {"half of a surrogate pair", "half of a surrogate pair inside a signal"}


def value(frame: object) -> object:
    """What a frame says, once its JSON was read."""
    return json.loads(frame) if isinstance(frame, str) else frame


@pytest.mark.parametrize("case", named(vectors("client-valid.json") + vectors("client-ignored.json")))
def test_valid_client_frames_validate(case):
    """Every frame the server obeys is allowed by the AsyncAPI document."""
    CLIENT.validate(value(case["frame"]))


def of_shape() -> list[dict]:
    """The refused frames that are JSON, and wrong as values."""
    found = []
    for case in vectors("client-refused.json"):
        try:
            value(case["frame"])
        except ValueError:
            continue
        if case["name"] not in OF_BYTES:
            found.append(case)
    return found


@pytest.mark.parametrize("case", named(of_shape()))
def test_refused_client_frames_do_not_validate(case):
    """Every frame that is refused for its shape is refused by the AsyncAPI document too."""
    assert not CLIENT.is_valid(value(case["frame"]))


@pytest.mark.parametrize("case", named(vectors("server.json")))
def test_server_frames_validate(case):
    """Every frame of the server is allowed by the document, an ack also by what its event always has."""
    SERVER.validate(case["frame"])
    if case["frame"]["type"] == "ack":
        event = case["frame"]["payload"]["eventType"]
        reference = f"#/components/messages/server.ack.{event}/payload"
        validator({"components": ASYNCAPI["components"]}, reference).validate(case["frame"])


@pytest.mark.parametrize("event", sorted(SERVER_PAYLOADS))
def test_server_frames_need_their_fields(event):
    """Without any one of its required fields, a frame of the server does not validate."""
    case = next(case for case in vectors("server.json") if case["frame"]["type"] == event)
    payload = case["frame"]["payload"]
    required = ASYNCAPI["components"]["schemas"][SERVER_PAYLOADS[event].__name__]["required"]
    for name in required:
        less = {key: each for key, each in payload.items() if key != name}
        assert not SERVER.is_valid({"type": event, "payload": less}), name


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    """No reference of the document is broken, and each event is an operation with an ack and a nack for an answer."""
    references = set()

    def look(node: object) -> None:
        if isinstance(node, dict):
            references.update(each for key, each in node.items() if key == "$ref")
            node = list(node.values())
        for inner in node if isinstance(node, list) else ():
            look(inner)

    look(ASYNCAPI)
    for reference in references:
        place: object = ASYNCAPI
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    for event in CLIENT_PAYLOADS:
        answers = [each["$ref"] for each in ASYNCAPI["operations"][f"on.{event}"]["reply"]["messages"]]
        assert f"#/channels/realtime/messages/server.ack.{event}" in answers
        assert "#/channels/realtime/messages/server.nack" in answers


def test_the_asyncapi_document_has_every_code():
    """Each close code is explained, and each nack and each ack field of the vectors is in the tables."""
    assert set(CLOSES) == set(CloseCode)
    heard = [case["frame"] for case in vectors("server.json")]
    assert {frame["payload"]["code"] for frame in heard if frame["type"] == "nack"} == {kind.code for kind in NACKS}
    assert set(ACK_FIELDS) <= set(CLIENT_PAYLOADS)


def test_the_openapi_document_is_one():
    """The document keeps to the OpenAPI 3.1 meta-schema, and no two operations share a name."""
    schemathesis.openapi.from_dict(OPENAPI).validate()
    names = [
        operation["operationId"]
        for operations in OPENAPI["paths"].values()
        for method, operation in operations.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", named(vectors("http.json")))
def test_http_examples_are_documented(case):
    """The route and the status of every example are in the document, and its body and headers are as described."""
    method, _, path = case["route"].partition(" ")
    answer = OPENAPI["paths"][path][method.lower()]["responses"][str(case["status"])]
    content = answer.get("content", {})
    if case["body"] is None:
        assert method == "HEAD" or not content
    else:
        media = "text/plain" if isinstance(case["body"], str) else "application/json"
        judge = {**content[media]["schema"], "components": OPENAPI["components"]}
        jsonschema_rs.Draft202012Validator(judge).validate(case["body"])
    assert {name.lower() for name in case.get("headers", {})} <= {name.lower() for name in answer.get("headers", {})}


# By hand from the contract, section 1, with the good statuses it names.
CONTRACT_ROUTES = """
GET /health 200 503
HEAD /health 200 503
GET /health/live 200
GET /version 200
GET /metrics 200
GET /v1/auth/mode 200
POST /v1/auth/register 410
POST /v1/auth/login 410
GET /v1/auth/sso/start 302 400
GET /v1/auth/sso/session 200 503
GET /v1/auth/sso/callback 302
GET /v1/auth/sso/logout 302
POST /v1/auth/refresh 200
POST /v1/auth/logout 200
GET /v1/auth/me 200
GET /v1/auth/ws-ticket 200
GET /v1/rooms 200
POST /v1/rooms 201 409
GET /v1/rooms/{slug}/messages 200 404
GET /v1/rooms/{slug}/members 200 404
POST /v1/rooms/{slug}/members 201 404
DELETE /v1/rooms/{slug}/members/{userId} 204 404
GET /v1/admin/users 200
POST /v1/admin/users/{id}/promote 200 404
POST /v1/admin/users/{id}/demote 200 404
POST /v1/admin/users/{id}/ban 200 404
POST /v1/admin/users/{id}/unban 200 404
GET /v1/telemetry/summary 200
""".strip().splitlines()


@pytest.mark.parametrize("row", CONTRACT_ROUTES)
def test_every_route_of_the_contract_is_documented_and_has_an_example(row):
    """Each route of the contract answers with its statuses, and each of them is in a vector."""
    method, path, *statuses = row.split()
    documented = OPENAPI["paths"][path][method.lower()]["responses"]
    shown = {str(case["status"]) for case in vectors("http.json") if case["route"] == f"{method} {path}"}
    assert set(statuses) <= documented.keys()
    assert set(statuses) <= shown


def test_the_vectors_show_no_other_routes():
    """Examples are of routes of the contract; what was added since is in the document alone."""
    rows = {" ".join(row.split()[:2]) for row in CONTRACT_ROUTES}
    assert {case["route"] for case in vectors("http.json")} <= rows
