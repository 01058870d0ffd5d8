"""A shop: orders in PostgreSQL, over HTTP."""

import asyncio
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import asyncpg

DATABASE_URL = os.environ["DATABASE_URL"]
TITLE = os.environ["SHOP_TITLE"]


def query(method, *arguments):
    async def run():
        connection = await asyncpg.connect(DATABASE_URL, timeout=5)
        try:
            return await getattr(connection, method)(*arguments)
        finally:
            await connection.close()

    return asyncio.run(run())


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"ok": query("fetchval", "SELECT 1") == 1})
        elif self.path == "/orders":
            self.answer(200, [row["item"] for row in query("fetch", "SELECT item FROM orders ORDER BY id")])
        elif self.path == "/":
            self.answer(200, {"title": TITLE, "orders": query("fetchval", "SELECT count(*) FROM orders")})
        else:
            self.answer(404, {"error": "no such page"})

    do_HEAD = do_GET

    def do_POST(self):
        item = self.rfile.read(int(self.headers["Content-Length"])).decode()
        query("execute", "INSERT INTO orders (item) VALUES ($1)", item)
        self.answer(201, {"item": item})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


query("execute", "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)")
print("the shop is open", flush=True)
ThreadingHTTPServer(("", 8000), Shop).serve_forever()
