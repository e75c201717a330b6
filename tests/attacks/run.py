#!/usr/bin/env python3
"""Slow clients against one worker of cairn: what an ordinary client notices of many that hold on to what is scarce.

    python3 tests/attacks/run.py target/release/cairn [--clients 1000] [--seconds 60] [--only NAME ...]

On one core an ordinary client and its origin, and behind them, with what time they leave, the slow clients and theirs; the proxy
on another. For each attack one line:
p50 and p99 of the ordinary client without and under attack, its errors, the proxy's anonymous memory at its largest, the fewest
free buffers, connections shed, and descriptors. Standard library only. Not a test: figures depend on the machine. The same
attacks with small numbers are tests in `tests/proxy/`.
"""
import argparse
import http.client
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONFIG = """
watch = false
[workers]
count = 1
[admin]
listen = "127.0.0.1:0"
socket = "off"
[[listener]]
name = "l"
bind = "127.0.0.1:0"
[[route]]
path = "/"
cluster = "quick"
[[route]]
cluster = "slow"
[[cluster]]
name = "quick"
endpoints = ["127.0.0.1:{quick}"]
[[cluster]]
name = "slow"
endpoints = ["127.0.0.1:{slow}"]
# As for a long poll: what waits behind it is held for as long as is measured.
timeouts.response = "10m"
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"
MUCH = b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + bytes(65536)
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
UPGRADE = (
    b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def child(work, *arguments):
    """Runs `work` in a process of its own until it is killed."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            work(*arguments)
        except KeyboardInterrupt:
            pass
        finally:
            os._exit(0)
    return pid


def serve(listener, idle):
    """An origin: answers `/` and `/quick`, talks without end at `/events` and after an upgrade, is silent elsewhere; reads everything."""
    if idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    listener.setblocking(False)
    wait, talking, heads = selectors.DefaultSelector(), set(), {}
    wait.register(listener, selectors.EVENT_READ)

    def close(sock):
        talking.discard(sock)
        heads.pop(sock, None)
        wait.unregister(sock)
        sock.close()

    while True:
        for key, _ in wait.select(0.005 if talking else 1):
            sock = key.fileobj
            if sock is listener:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    continue
                peer.setblocking(False)
                heads[peer] = b""
                wait.register(peer, selectors.EVENT_READ)
                continue
            try:
                data = sock.recv(1 << 18)
                if not data:
                    close(sock)
                    continue
                if heads[sock] is None:
                    continue
                heads[sock] += data
                while heads[sock] and b"\r\n\r\n" in heads[sock]:
                    head, _, heads[sock] = heads[sock].partition(b"\r\n\r\n")
                    if head.startswith((b"GET / ", b"GET /quick ")):
                        sock.send(OK)
                        continue
                    if head.startswith(b"GET /big "):
                        sock.send(MUCH)
                        continue
                    heads[sock] = None
                    if head.startswith((b"GET /events", b"GET /upgrade")):
                        sock.send(SWITCHED if b"/upgrade" in head else EVENTS)
                        talking.add(sock)
            except BlockingIOError:
                pass
            except OSError:
                close(sock)
        for sock in list(talking):
            try:
                for _ in range(20):
                    sock.send(b"data: x\n\n")
            except BlockingIOError:
                pass
            except OSError:
                close(sock)


class Slow:
    """A slow client: what it sends first, and what it goes on with in turns."""

    def __init__(self, first, more=b"", warm=False, deaf=False):
        self.first, self.more, self.warm, self.deaf = first, more, warm, deaf


def upload(method):
    return b"%s /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" % method


ATTACKS = {
    "upload byte by byte": Slow(upload(b"POST"), b"x"),
    "upload that may be replayed": Slow(upload(b"PUT"), b"x", warm=True),
    "requests behind a slow one": Slow(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n", GET * 500),
    "events that nobody reads": Slow(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"),
    "WebSockets that nobody reads": Slow(UPGRADE),
    "answers that nobody reads": Slow(BIG, BIG, deaf=True),
    "partial heads": Slow(b"G", b"E"),
}


def attack(address, slow, count):
    """Keeps `count` slow clients going."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    clients = []

    def connect():
        sock = socket.socket()
        if slow.deaf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow.warm:
            sock.sendall(GET)
            sock.recv(1000)
        sock.setblocking(False)
        sock.send(slow.first)
        return sock

    turn = 0
    while True:
        started = time.monotonic()
        while len(clients) < count and time.monotonic() - started < 0.002:
            try:
                clients.append(connect())
            except OSError:
                break
        # 4,000 pieces a second, evenly: what is measured is what is held, not a burst that any proxy has to work off.
        for _ in range(8 if slow.more and len(clients) == count else 0):
            turn = (turn + 1) % count
            try:
                clients[turn].send(slow.more)
            except BlockingIOError:
                pass
            except OSError:
                clients[turn].close()
                del clients[turn]
                break
        time.sleep(max(0.0005, 0.002 - (time.monotonic() - started)))


def ask(address, seconds):
    """An ordinary client: 100 requests a second, a tenth of them on new connections. Returns latencies in ms, and errors."""
    latencies, errors, connection = [], 0, None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            if connection is None or len(latencies) % 10 == 0:
                connection = http.client.HTTPConnection(*address, timeout=5)
            connection.request("GET", "/")
            answer = connection.getresponse()
            if answer.status != 200 or answer.read() != b"ok":
                raise OSError(answer.status)
            latencies.append(1000 * (time.perf_counter() - begun))
        except (OSError, http.client.HTTPException):
            errors, connection = errors + 1, None
        time.sleep(max(0, 0.01 - (time.perf_counter() - begun)))
    return sorted(latencies), errors


class Watch:
    """The proxy's memory and gauges, looked at once a second by a process of its own."""

    def __init__(self, pid, admin):
        read, write = os.pipe()
        self.pipe = os.fdopen(read)
        self.child = child(self.run, pid, admin, os.fdopen(write, "w"))

    @staticmethod
    def run(pid, admin, out):
        while True:
            memory = int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) // 1024
            connection = http.client.HTTPConnection(*admin, timeout=30)
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
            free = re.search(r"^cairn_worker_free_buffers{.*} (\d+)", metrics, re.M)
            shed = sum(int(count) for count in re.findall(r"^cairn_connections_shed_total{.*} (\d+)", metrics, re.M))
            print(memory, free.group(1) if free else 0, shed, len(os.listdir(f"/proc/{pid}/fd")), file=out, flush=True)
            time.sleep(1)

    def end(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        rows = [[int(field) for field in line.split()] for line in self.pipe if line.endswith("\n")]
        memory, free, shed, descriptors = zip(*rows)
        return max(memory), min(free), max(shed), max(descriptors)


def start(binary, ports, folder):
    path = os.path.join(folder, "cairn.toml")
    with open(path, "w") as file:
        file.write(CONFIG.format(quick=ports[0], slow=ports[1]))
    proxy = subprocess.Popen([binary, "run", "-c", path], stderr=subprocess.PIPE, text=True)
    found = {}
    for line in proxy.stderr:
        if place := re.search(r"\bcairn: (listener l|admin) on (127.*):(\d+)", line):
            found[place[1]] = (place[2], int(place[3]))
        if " cairn: ready" in line:
            break
    # Somebody reads on, as a supervisor would.
    child(lambda: [None for _ in proxy.stderr])
    return proxy, found["listener l"], found["admin"]


def quantile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))] if sorted_values else float("nan")


def measure(arguments, name, ports):
    with tempfile.TemporaryDirectory() as folder:
        proxy, address, admin = start(arguments.cairn, ports, folder)
        cores = sorted(os.sched_getaffinity(proxy.pid))
        for task in os.listdir(f"/proc/{proxy.pid}/task"):
            os.sched_setaffinity(int(task), cores[:1])
        os.sched_setaffinity(0, cores[-1:])
        quiet, _ = ask(address, min(10, arguments.seconds))
        watch = Watch(proxy.pid, admin)
        attacker = child(attack, address, ATTACKS[name], arguments.clients)
        # Until they hold what they can: to fill a thousand connections with answers is load, and no attack.
        time.sleep(8)
        loud, errors = ask(address, arguments.seconds)
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
        memory, free, shed, descriptors = watch.end()
        os.sched_setaffinity(0, cores)
        proxy.terminate()
        try:
            proxy.wait(5)
        except subprocess.TimeoutExpired:
            proxy.kill()
        before, after = quantile(quiet, 0.99), quantile(loud, 0.99)
        print(
            f"{name:30} {quantile(quiet, 0.5):6.2f} {before:6.2f}   {quantile(loud, 0.5):6.2f} {after:6.2f}  {after / before:5.2f}"
            f"   {errors:5} of {len(loud) + errors:<6} {memory:4} MiB  {free:6} {shed:6} {descriptors:6}",
            flush=True,
        )
        return errors == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cairn")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
    children = [child(serve, listener, idle) for listener, idle in zip(listeners, (False, True))]
    ports = [listener.getsockname()[1] for listener in listeners]
    print(f"{arguments.clients} clients, {arguments.seconds:.0f} s{'':24} quiet p50 p99   attacked p50 p99  ratio   errors"
          "        memory    free   shed  descriptors")
    results = [measure(arguments, name, ports) for name in arguments.only]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
