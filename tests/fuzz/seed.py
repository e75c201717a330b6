"""Writes seeds for the fuzz targets: seed.py FOLDER, which holds requests.jsonl.gz and responses.jsonl.gz: messages of HTTP/1.1
(base64 in request_b64 and response_b64) or frames of HTTP/2 (base64 in the steps). Run from the repository's root."""
import base64
import gzip
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent / "corpus"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def put(target, name, data):
    folder = ROOT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def steps(kind, data):
    """The bytes as steps of the downstream target: each takes up to 31 * 16 bytes."""
    out = b""
    while data:
        part, data = data[:496], data[496:]
        size = -(-len(part) // 16)
        part = part.ljust(size * 16, b" ") if data else part
        out += bytes([size << 3 | kind]) + part
    return out


def load(folder, name):
    with gzip.open(pathlib.Path(folder) / name) as lines:
        for line in lines:
            case = json.loads(line)
            # A case without bytes of its own is made by the runner.
            data = base64.b64decode(case.get("request_b64") or case.get("response_b64") or "")
            if data and len(data) <= 8192:
                yield case["id"], data


def frames(data):
    """The frames in bytes: kind and payload."""
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        yield data[3], data[9:9 + length]
        data = data[9 + length:]


def load_frames(folder):
    with gzip.open(pathlib.Path(folder) / "requests.jsonl.gz") as lines:
        for line in lines:
            case = json.loads(line)
            data = b"".join(base64.b64decode(step[1]) for step in case.get("steps", []) if step[0] == "b")
            if data and len(data) <= 4096:
                yield case["id"], data


def main():
    for name, data in load_frames(sys.argv[1]):
        put("frames", name, b"\x02" + data)
        sections = [payload for kind, payload in frames(data) if kind in (1, 9)]
        put("hpack", name, b"\x02" + b"\xff\xff".join(sections))
    for name, data in load(sys.argv[1], "requests.jsonl.gz"):
        put("head", name, b"\x80" + data)
        put("downstream", name, steps(0, data) + steps(3, PLAIN) + b"\x06")
        body = data.partition(b"\r\n\r\n")[2]
        if b"chunked" in data.lower() and body:
            put("chunked", name, b"\x80" + body)
    for name, data in load(sys.argv[1], "responses.jsonl.gz"):
        put("response", name, b"\x80" + data)
        put("downstream", name, steps(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") + steps(3, data) + b"\x07")
        body = data.partition(b"\r\n\r\n")[2]
        if b"chunked" in data.lower() and body:
            put("chunked", name, b"\x80" + body)


main()
