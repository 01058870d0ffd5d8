"""POST /NAME queues a job, GET /NAME shows its result, GET / says that the queue is there."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nats.js.errors import KeyNotFoundError
from queue_of import API_TOKEN, STREAM, connect

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=10)


jetstream = wait(connect()).jetstream()
results = wait(jetstream.key_value("results"))


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        if not name:
            self.answer(200, f"{wait(jetstream.stream_info(STREAM)).state.messages} jobs so far")
            return
        try:
            self.answer(200, wait(results.get(name)).value.decode())
        except KeyNotFoundError:
            self.answer(404, "not yet")

    do_HEAD = do_GET

    def do_POST(self):
        if self.headers.get("Authorization") != f"Bearer {API_TOKEN}":
            self.answer(401, "who are you?")
            return
        work = self.rfile.read(int(self.headers["Content-Length"]))
        wait(jetstream.publish(f"jobs.{self.path.strip('/')}", work))
        self.answer(202, "queued")

    def answer(self, status, text):
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


ThreadingHTTPServer(("", 9000), Api).serve_forever()
