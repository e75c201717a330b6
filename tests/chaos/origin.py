"""An origin whose behaviour can be changed while it runs.

Usage: origin.py PORT. It answers every request with 200 and two bytes. Lines on standard input change that:

    ok | 503 | silent | close | reset | reset-post | delay MILLISECONDS | idle-close SHARE | width REQUESTS
    counts     print the numbers of requests as JSON: GETs, POSTs, POSTs that came twice, requests under way, requests cut by the client

A request is told apart by its field x-number. With a width, the origin works on so many requests at a time; others wait.
"""

import asyncio
import json
import random
import socket
import struct
import sys

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad"


class Origin:
    def __init__(self):
        self.mode = "ok"
        self.delay = 0.0
        self.places = None
        self.idle_close = 0.0
        self.counts = {"GET": 0, "POST": 0, "checks": 0, "twice": 0, "under_way": 0, "cut": 0, "closed": 0}
        self.posts = set()

    def order(self, line):
        words = line.split()
        if words[0] == "delay":
            self.mode, self.delay = "ok", float(words[1]) / 1000
        elif words[0] == "idle-close":
            self.idle_close = float(words[1])
        elif words[0] == "width":
            self.places = asyncio.Semaphore(int(words[1]))
        elif words[0] == "counts":
            print(json.dumps(self.counts), flush=True)
        else:
            self.mode, self.delay = words[0], 0.0

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = {}
                for line in head.split(b"\r\n")[1:]:
                    name, _, value = line.partition(b":")
                    fields[name.strip().lower()] = value.strip()
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
                method = head.split(b" ", 1)[0].decode()
                if not await self.answer(method, head, fields.get(b"x-number"), reader, writer):
                    return
                if self.idle_close and random.random() < self.idle_close:
                    self.counts["closed"] += 1
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, method, head, number, reader, writer):
        if b" /healthz " in head.split(b"\r\n", 1)[0]:
            self.counts["checks"] += 1
        else:
            self.counts[method] = self.counts.get(method, 0) + 1
            if method == "POST" and number:
                self.counts["twice"] += number in self.posts
                self.posts.add(number)
        if self.mode == "reset" or self.mode == "reset-post" and method == "POST":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if self.mode == "silent":
            await reader.read(1)
            return False
        if self.mode == "close":
            return False
        if self.places:
            async with self.places:
                await asyncio.sleep(self.delay)
        elif self.delay:
            self.counts["under_way"] += 1
            # A client that goes away in the meantime is noticed at once.
            try:
                await asyncio.wait_for(reader.read(1), self.delay)
                self.counts["cut"] += 1
                return False
            except asyncio.TimeoutError:
                pass
            finally:
                self.counts["under_way"] -= 1
        writer.write(UNAVAILABLE if self.mode == "503" else ANSWER)
        await writer.drain()
        return True


async def main():
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    async with server:
        while line := await orders.readline():
            origin.order(line.decode())


asyncio.run(main())
