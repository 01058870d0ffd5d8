"""The command `boltorezka`: serve, migrate, new-epochs, dev-sso, smoke-session, check-config.

Exit codes: 0 done; 1 failed; 2 the configuration or the command line is wrong; 3 the database needs
`boltorezka migrate`; 4 the port cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from boltorezka import __version__, config
from boltorezka.errors import BoltorezkaError, ConfigError, SchemaError

EXIT_FAILED, EXIT_CONFIG, EXIT_SCHEMA, EXIT_PORT = 1, 2, 3, 4

# A smoke session outlives one smoke, not one day.
MAX_SMOKE_TTL_S = 3600


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure is one clear message on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ConfigError as error:
        for problem in error.data["problems"]:
            _say(problem)
        _say(f"{error.message} Correct it and start again; `boltorezka check-config` lists every setting.")
        return EXIT_CONFIG
    except SchemaError as error:
        _say(error.message)
        return EXIT_SCHEMA
    except _PortTaken as error:
        _say(str(error))
        return EXIT_PORT
    except BoltorezkaError as error:
        _say(error.message)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return code


class _PortTaken(Exception):
    """The address cannot be listened on."""


def _serve(arguments: argparse.Namespace) -> int:
    settings = config.load(os.environ)
    from boltorezka.adapters.database import require_current
    from boltorezka.adapters.logs import configure_logs
    from boltorezka.app import serve_forever

    configure_logs(settings.log_level)
    require_current(settings.database_url)
    # Messages are freed by counting references: looking for cycles after every 700 objects, among those of thousands of
    # sockets, finds nothing. What start-up made stays for good and need not be looked at.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with _listener(arguments.host, arguments.port) as listener:
        _run(serve_forever(settings, listener))
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    from boltorezka.adapters.database import code_head, migrate

    if arguments.head:
        named = os.environ.get(f"{config.PREFIX}DATABASE_URL")
        print(code_head(config.database(os.environ) if named else None))
    else:
        print(migrate(config.database(os.environ)))
    return 0


def _new_epochs(arguments: argparse.Namespace) -> int:
    from boltorezka.app import new_epochs

    print(_run(new_epochs(config.database(os.environ), arguments.slugs)))
    return 0


def _dev_sso(arguments: argparse.Namespace) -> int:
    from boltorezka.dev_sso import require_safe_place, serve_dev_sso

    require_safe_place(arguments.host, os.environ.get("BOLTOREZKA_ENVIRONMENT", ""))
    with _listener(arguments.host, arguments.port) as listener:
        _run(serve_dev_sso(listener))
    return 0


def _smoke_session(arguments: argparse.Namespace) -> int:
    settings = config.load(os.environ)
    from boltorezka.adapters.smoke_sessions import smoke_sessions

    print(json.dumps(_run(smoke_sessions(settings.database_url, settings.jwt_secret.reveal(), arguments.ttl))))
    return 0


def _check_config(_arguments: argparse.Namespace) -> int:
    rows, problems = config.describe(os.environ)
    width = max(len(name) for name, _, _ in rows)
    for name, state, value in rows:
        print(f"{name:<{width}}  {state:<8}{value}".rstrip())
    for problem in problems:
        _say(problem)
    return EXIT_CONFIG if problems else 0


def _listener(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening. Raises _PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A port in TIME_WAIT after a restart is free for us.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        advice = "Stop what uses it, or choose another --port."
        raise _PortTaken(f"Cannot listen on {host}:{port}: {why}. {advice}") from None
    return listener


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _say(text: str) -> None:
    print(f"boltorezka: {text}", file=sys.stderr)


def _ttl(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_SMOKE_TTL_S:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_SMOKE_TTL_S} seconds")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boltorezka",
        description="A self-hosted text and voice rooms server. Settings come from the environment (check-config).",
    )
    parser.add_argument("--version", action="version", version=f"boltorezka {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve HTTP and WebSocket on one port until SIGTERM")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080, help="0 takes a free one; the log names it")
    serve.set_defaults(run=_serve)

    migrate = commands.add_parser("migrate", help="bring the database to this version's schema, or make it")
    migrate.add_argument(
        "--head",
        action="store_true",
        help="only print the schema this version needs (of SQLite unless DATABASE_URL says otherwise)",
    )
    migrate.set_defaults(run=_migrate)

    epochs = commands.add_parser(
        "new-epochs", help="after a restore of the database: make every client begin anew; prints how many rooms"
    )
    epochs.add_argument("slugs", nargs="*", metavar="ROOM", help="only these rooms (default: all)")
    epochs.set_defaults(run=_new_epochs)

    dev_sso = commands.add_parser("dev-sso", help="a development SSO: choose who you are; loopback only")
    dev_sso.add_argument("--host", default="127.0.0.1")
    dev_sso.add_argument("--port", type=int, default=8090, help="0 takes a free one; the log names it")
    dev_sso.set_defaults(run=_dev_sso)

    smoke = commands.add_parser("smoke-session", help="print sessions of the fixed smoke accounts as JSON")
    smoke.add_argument("--ttl", type=_ttl, required=True, metavar="SECONDS")
    smoke.set_defaults(run=_smoke_session)

    check = commands.add_parser("check-config", help="print every setting's state, and what is wrong")
    check.set_defaults(run=_check_config)
    return parser


if __name__ == "__main__":
    sys.exit(main())
