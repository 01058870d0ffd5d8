"""The HTTP side of the server: routes of contract section 1 over the ports, as one ASGI application."""
