"""Whom a check believes when it speaks TLS: the certificate authorities of the system, or one file."""

from __future__ import annotations

import functools
import ssl


@functools.lru_cache(maxsize=8)  # loading a system's authorities takes longer than the handshake; few files are named
def trust(ca_file: str = "") -> ssl.SSLContext:
    """A client's context that verifies chain and name. `ca_file` (PEM) replaces the system's authorities.

    Raises OSError (ssl.SSLError among them) when the file cannot be used.
    """
    return ssl.create_default_context(cafile=ca_file or None)
