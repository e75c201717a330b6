#!/usr/bin/env python3
"""CPU time per exchange of cairn and its peers, side by side. Until `cairn-load compare` takes over.

    cargo build --release
    python3 bench/peers.py [--path /64k] [--repeat 5] [--seconds 3] [--connections 64] [--peers cairn,nginx,haproxy]

Needs wrk, nginx (also the origin) and, if asked for, haproxy on PATH. The proxies take CPU 0 one after the other, the load and the
origin CPU 1; repetitions are interleaved. Reported: user and system microseconds of the proxy per exchange, from /proc.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")

ORIGIN = """
worker_processes 1; daemon off; pid {dir}/origin.pid; error_log {dir}/origin.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{origin}; root {dir}; location = / {{ return 200 "sixty-four bytes of body, more or less, as a small API answer is\\n"; }} }}
}}
"""
CONFIGS = {
    "cairn": """
workers.count = 1
[[listener]]
name = "bench"
bind = "127.0.0.1:{port}"
[[route]]
name = "all"
cluster = "origin"
[[cluster]]
name = "origin"
endpoints = ["127.0.0.1:{origin}"]
pool.max_idle = 256
""",
    "nginx": """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 0;
  proxy_buffer_size 16k; proxy_buffers 8 32k; proxy_max_temp_file_size 0; proxy_request_buffering off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""",
    "haproxy": """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option splice-auto
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind 127.0.0.1:{port}
  default_backend origin
backend origin
  http-reuse always
  server one 127.0.0.1:{origin}
""",
}
COMMANDS = {
    "cairn": [str(ROOT / "target/release/cairn"), "run", "-c"],
    "nginx": ["nginx", "-p", "{dir}", "-c"],
    "haproxy": ["haproxy", "-f"],
}


def pinned(cpu, command, **options):
    return subprocess.Popen(["taskset", "-c", str(cpu), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def family(pid):
    """A process and all that it started."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [one for child in children for one in family(int(child))]


def cpu_seconds(pids):
    user = system = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS, system / TICKS


def load(port, path, seconds, connections):
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}", f"http://127.0.0.1:{port}{path}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = re.findall(r"Non-2xx.*|Socket errors.*", out)
    return int(re.search(r"(\d+) requests in", out).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), failed


def start(kind, port, origin, folder):
    config = folder / f"{kind}.conf"
    config.write_text(CONFIGS[kind].format(port=port, origin=origin, dir=folder))
    return pinned(0, [part.format(dir=folder) for part in COMMANDS[kind]] + [str(config)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="/", help="/ (64 bytes), /64k or /1m")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--peers", default="cairn,nginx,haproxy")
    arguments = parser.parse_args()
    kinds, origin = arguments.peers.split(","), 18100
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "64k").write_bytes(os.urandom(64 * 1024))
        (folder / "1m").write_bytes(os.urandom(1024 * 1024))
        (folder / "origin.conf").write_text(ORIGIN.format(dir=folder, origin=origin))
        running = [pinned(1, ["nginx", "-p", name, "-c", str(folder / "origin.conf")])]
        ports = {kind: origin + 1 + index for index, kind in enumerate(kinds)}
        proxies = {kind: start(kind, ports[kind], origin, folder) for kind in kinds}
        running += proxies.values()
        time.sleep(1)
        try:
            report(measure(kinds, proxies, ports, arguments))
        finally:
            for process in running:
                process.terminate()
                process.wait()


def measure(kinds, proxies, ports, arguments):
    results = {kind: [] for kind in kinds}
    for _ in range(arguments.repeat):
        for kind in kinds:
            load(ports[kind], arguments.path, 1, arguments.connections)
            pids = family(proxies[kind].pid)
            before = cpu_seconds(pids)
            count, rate, failed = load(ports[kind], arguments.path, arguments.seconds, arguments.connections)
            user, system = (1e6 * (b - a) / count for a, b in zip(before, cpu_seconds(pids)))
            results[kind].append((user + system, user, system, rate))
            print(f"{kind:8} {user + system:8.2f} us (user {user:6.2f}, system {system:7.2f})  {rate:9.0f}/s", *failed, flush=True)
    return results


def report(results):
    medians = {kind: statistics.median(row[0] for row in rows) for kind, rows in results.items()}
    best = min((value for kind, value in medians.items() if kind != "cairn"), default=None)
    print()
    for kind, value in medians.items():
        ratio = f"  {value / best:.2f} x the best peer" if best and kind == "cairn" else ""
        print(f"median {kind:8} {value:8.2f} us per exchange{ratio}")


main()
