"""The connection every program here uses."""

import os

import nats

STREAM = os.environ["STREAM"]
API_TOKEN = os.environ["API_TOKEN"]


async def connect():
    return await nats.connect(os.environ["QUEUE_URL"], connect_timeout=2, max_reconnect_attempts=30)
