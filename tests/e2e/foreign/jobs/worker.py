"""Take a job, do it, keep the result."""

import asyncio
import signal
import socket

import nats.errors
from queue_of import connect


async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    connection = await connect()
    jetstream = connection.jetstream()
    results = await jetstream.key_value("results")
    jobs = await jetstream.pull_subscribe("jobs.>", durable="worker")
    print("waiting for jobs", flush=True)
    while not ended.is_set():
        try:
            (job,) = await jobs.fetch(1, timeout=0.5)
        except nats.errors.TimeoutError:
            continue
        name = job.subject.partition(".")[2]
        await results.put(name, f"{job.data.decode().upper()} by {socket.gethostname()}".encode())
        await job.ack()
    await connection.close()


asyncio.run(main())
