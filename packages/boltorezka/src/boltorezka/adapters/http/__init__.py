"""The HTTP side of the server: routes of contract section 1 over the ports, as one ASGI application."""

from boltorezka.adapters.http.application import HttpParts, HttpSettings, http_application
from boltorezka.adapters.http.operations import BuildInfo

__all__ = ["BuildInfo", "HttpParts", "HttpSettings", "http_application"]
