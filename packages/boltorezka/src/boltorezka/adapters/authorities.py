"""Whom the server believes when it calls somebody over TLS."""

from __future__ import annotations

import functools
import ssl

import httpx


@functools.cache  # one set for all sign-in providers: loading it costs 25 ms of CPU each time
def authorities() -> ssl.SSLContext:
    """A client's context that verifies chain and name by the authorities httpx trusts by itself."""
    return httpx.create_ssl_context(trust_env=False)
