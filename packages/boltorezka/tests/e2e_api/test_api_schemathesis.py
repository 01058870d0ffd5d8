"""The published description of the API against a real server: generated requests, good and bad, by everybody."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from boltorezka.testing import METRICS_TOKEN, bearer, server_in_thread, signed_in

pytestmark = pytest.mark.e2e

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip

# Signing out would end the session that the other requests need; both ways of it have tests of their own.
LEFT_OUT = ["/v1/auth/logout", "/v1/auth/refresh"]

# Per operation and caller; some 35 operations and three callers make this a minute on two cores.
EXAMPLES = 8


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a real server."""
    with server_in_thread(tmp_path_factory.mktemp("api"), SUPER_ADMIN_EMAIL="ann@people.example") as address:
        yield address


@pytest.fixture(scope="module")
def callers(url):
    """What each caller sends to show who they are."""
    return {
        "super admin": bearer(signed_in(url, "ann")["token"]),
        "user": bearer(signed_in(url, "boris")["token"]),
        "nobody": {},
        "operator": bearer(METRICS_TOKEN),
    }


@pytest.mark.parametrize("who", ["super admin", "user", "nobody", "operator"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_does_what_its_description_says(who, mode, url, callers):
    """No generated request makes a fault; each status, type, header and body is one the document describes."""
    schema = schemathesis.openapi.from_url(f"{url}/v1/openapi.json").exclude(path=LEFT_OUT)
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.call_and_validate(base_url=url, headers=callers[who], checks=CHECKS, allow_redirects=False)

        try:
            ask()
        except Unsatisfiable:
            # An operation that takes nothing, or any text, cannot be asked wrongly.
            assert mode is schemathesis.GenerationMode.NEGATIVE
            continue
        seen += 1
    assert seen >= (40 if mode is schemathesis.GenerationMode.POSITIVE else 5)
