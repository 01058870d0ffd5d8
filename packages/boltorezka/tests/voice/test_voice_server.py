"""Voice in the whole server: settings reach the seat, and what happens is exported."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import httpx
from websockets.asyncio.client import connect

from boltorezka.testing import METRICS_TOKEN, bearer, dev_sso, in_process_server, sign_in

DEADLINE_S = 20.0
SECRET = "the-turn-secret-of-this-server"


async def asked(socket, kind: str, payload: dict) -> dict:
    """The ack or nack of a request."""
    await socket.send(json.dumps({"type": kind, "requestId": kind, "payload": payload}))
    async with asyncio.timeout(DEADLINE_S):
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] in {"ack", "nack"} and frame["payload"]["requestId"] == kind:
                return frame["payload"]


async def exported(client: httpx.AsyncClient, url: str, line: str) -> None:
    """Wait until /metrics has this line."""
    async with asyncio.timeout(DEADLINE_S):
        while line not in (await client.get(f"{url}/metrics", headers=bearer(METRICS_TOKEN))).text.splitlines():
            pass


async def test_settings_reach_the_seat_and_setups_are_exported(tmp_path):
    """A seat of the real server gets credentials made with TURN_SECRET; its setup and the seats are in /metrics."""
    turn = {"TURN_URLS": "turn:127.0.0.1:3478?transport=udp", "TURN_SECRET": SECRET, "TURN_TTL_S": "120"}
    async with dev_sso() as sso, in_process_server(tmp_path, sso, **turn) as running:
        sockets = []
        for name in ("ann", "boris"):
            async with httpx.AsyncClient(trust_env=False) as client:
                token = (await sign_in(client, running.url, name))["token"]
                ticket = (await client.get(f"{running.url}/v1/auth/ws-ticket", headers=bearer(token))).json()["ticket"]
            address = f"{running.url.replace('http', 'ws')}/v1/realtime/ws?ticket={ticket}"
            socket = await connect(address, proxy=None, max_queue=None)
            sockets.append(socket)
            await asked(socket, "room.join", {"roomSlug": "general"})
            (server,) = (await asked(socket, "call.join", {}))["iceServers"]
            digest = hmac.digest(SECRET.encode(), server["username"].encode(), hashlib.sha1)
            assert server["credential"] == base64.b64encode(digest).decode()
        await asked(sockets[0], "call.setup", {"connected": True, "setupMs": 300})
        async with httpx.AsyncClient(trust_env=False) as client:
            await exported(client, running.url, 'boltorezka_voice_setups_total{outcome="started"} 2.0')
            await exported(client, running.url, 'boltorezka_voice_setups_total{outcome="ok"} 1.0')
            await exported(client, running.url, 'boltorezka_voice_setup_seconds_bucket{le="0.35"} 1.0')
            await exported(client, running.url, 'boltorezka_voice_seats{state="connected"} 2.0')
        for socket in sockets:
            await socket.close()
