"""Make the stream and the table of results."""

import asyncio

from queue_of import STREAM, connect


async def main():
    connection = await connect()
    jetstream = connection.jetstream()
    await jetstream.add_stream(name=STREAM, subjects=["jobs.>"])
    await jetstream.create_key_value(bucket="results")
    await connection.close()
    print("the queue is there")


asyncio.run(main())
