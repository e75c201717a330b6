#!/usr/bin/env python3
"""Takes guards of the data path away, one at a time, and says how many seeds the simulated world needs to notice.

    python3 tests/sim/mutate.py [--seeds N] [NAME ...]

Works on a copy of the checkout in target/mutants, so that the checkout stays as it is. Prints a row of the table in README.md for each
guard. Exit 1: one of them is not missed.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Name, then file, what stands there, and what stands there without the guard: once, or, where another guard stands behind the first, for
# both.
GUARDS = [
    ("pause: receiving stops while the other side is slow", "src/uring/mod.rs",
     "                socket.recv = Recv::Cancelling { resume: false };\n                self.submit_cancel_receive(id.slot);",
     "                let _ = id;"),
    ("ENOBUFS: a starved receive is armed again", "src/uring/complete.rs",
     "                left -= 1;\n                self.submit_receive(slot);", "                left -= 1;"),
    ("a multishot receive that has ended is armed again", "src/uring/complete.rs",
     "                if ended && !paused {\n                    self.submit_receive(slot);", "                if ended && !paused && false {\n                    self.submit_receive(slot);"),
    ("EAGAIN and EINTR: the receive is armed again", "src/uring/complete.rs",
     "                    if ended && (resume || !paused) {", "                    if ended && resume {"),
    ("generation: a completion of a socket that was closed is dropped", "src/uring/complete.rs",
     "if self.peeks && socket.generation & GENERATION_MASK != generation {", "if false {"),
    ("a slot is freed when nothing is in flight", "src/uring/mod.rs",
     "if socket.phase == Phase::Closing && socket.in_flight == 0 {", "if socket.phase == Phase::Closing {"),
    ("FIN peek: an end that the kernel keeps to itself", "src/uring/start.rs",
     "peeks: driver.misses_ends(),", "peeks: false,"),
    ("an end that could not be told is asked for again", "src/uring/complete.rs",
     "            return self.untold_ends.push_back(last);", "            return;"),
    ("an end does not go before data that was taken early", "src/uring/complete.rs",
     "        if self.driver.has_overflowed() {\n            return", "        if false && self.driver.has_overflowed() {\n            return"),
    ("a short send goes on", "src/uring/complete.rs",
     "        if !drained || socket.finish {", "        if socket.finish {"),
    ("a close cancels what is in flight", "src/uring/submit.rs",
     "        if in_flight {", "        if false && in_flight {"),
    ("accepting goes on after a shortage", "src/uring/complete.rs",
     "            self.accepting_paused = false;\n            for index", "            self.accepting_paused = false;\n            for index in 0..0 { self.accept(index); }\n            for index in 0..0 { let _: usize = index; }\n            #[cfg(any())]\n            for index"),
    ("put-back: body bytes behind a response head", "src/downstream/h1.rs",
     "        let spare = if lease.is_empty() {\n            Some(lease)\n        } else {\n            engine.put_back(exchange, lease);\n            None\n        };",
     "        let spare = Some({ lease.advance(lease.len()); lease });"),
    ("replay: not once a byte of response has come", "src/exchange/recover.rs",
     "connection.reused && !connection.answered && end != End::ResponseTimeout", "connection.reused && end != End::ResponseTimeout",
     "src/exchange/connection.rs", ".filter(|connection| connection.answered)\n", ".filter(|_| false)\n"),
    ("replay: once, on a fresh connection", "src/exchange/recover.rs",
     "!self.replayed && is_stale(connection, end)", "is_stale(connection, end)",
     "src/exchange/recover.rs", "let options = AcquireOptions { fresh: true, replay: self.keeps_request(id, true) };", "let options = AcquireOptions { fresh: false, replay: true };",
     "src/exchange/recover.rs", "Place::Elsewhere | Place::Anywhere => self.attempt(id, true),", "Place::Elsewhere | Place::Anywhere => self.attempt(id, false),"),
    ("replay: idempotent methods only", "src/http/method.rs",
     "            Self::Post | Self::Connect | Self::Patch | Self::Other => false,",
     "            Self::Post => true,\n            Self::Connect | Self::Patch | Self::Other => false,"),
    ("replay: what was not sent, whatever its method", "src/exchange/recover.rs",
     "(method.is_idempotent() || connection.is_untouched(ring))", "method.is_idempotent()"),
    ("replay: what the kernel still reads is reclaimed first", "src/exchange/recover.rs",
     "        if self.reclaims(id, end) {", "        if false && self.reclaims(id, end) {"),
    ("pool: the response ended where the received bytes end", "src/upstream.rs",
     "            && connection.transport.input.is_empty()\n            && connection.transport.unsent(ring) == 0\n", "            && connection.transport.unsent(ring) == 0\n"),
    ("pool: what comes before the request is sent answers nothing", "src/upstream.rs",
     "        if content && early {", "        if false && early {"),
    ("pool: bytes on an idle connection close it", "src/upstream.rs",
     "connection.exchange.is_none() && (content || connection.end.is_some())", "connection.exchange.is_none() && connection.end.is_some()"),
    ("pool: what has ended leaves it", "src/upstream.rs",
     "        connection.end.get_or_insert(end);\n        if connection.exchange.is_none() {", "        connection.end.get_or_insert(end);\n        if false {"),
    ("a cut response without framing ends with a reset", "src/downstream/end.rs",
     "            if framed {\n                return Step::Again;\n            }\n            self.remove(engine, id, true);", "            if framed {\n                return Step::Again;\n            }\n            self.remove(engine, id, false);"),
    ("lingering: the client reads its answer before the reset", "src/downstream/end.rs",
     "        if clean || connection.transport.has_ended() {", "        if true || clean {"),
    ("lingering: what follows the last request is read", "src/downstream/end.rs",
     "            connection.current.body = Body::Close;\n        }\n        if connection.transport.unsent", "        }\n        if connection.transport.unsent",
     "src/downstream/end.rs", "&& !current.persists;", ";"),
    ("lingering: what may follow, too", "src/downstream/end.rs",
     "&& !current.persists;", ";"),
    ("TLS: nothing is sent behind a record that was lost", "src/tls/session.rs",
     "let mut goes_on = error != Error::Buffers;", "let mut goes_on = true;"),
    ("abort_on_close: earlier answers go out", "src/downstream/h1.rs",
     "                connection.enter(Phase::Flush, engine.ring.clock().tick());\n                return Step::Again;\n            }\n            self.set_paused", "                self.remove(engine, id, false);\n                return Step::Gone;\n            }\n            self.set_paused"),
    ("a request behind a dropped body is read", "src/downstream/end.rs",
     "            Body::Done if read.is_ok() && !self.draining => Phase::Head,", "            Body::Done if read.is_ok() && !self.draining && !connection.transport.has_ended() => Phase::Head,"),
    ("deadline: a connection attempt", "src/exchange/progress.rs",
     "            return Some(clock.deadline_from(since, Self::connect_timeout(exchange, endpoint)));", "            let _ = (since, Self::connect_timeout(exchange, endpoint));\n            return None;"),
    ("deadline: a route's time-out", "src/exchange/progress.rs",
     "            self.ring.set_timer(Timer::Exchange(id), at);\n        }\n    }\n\n    /// Sets both", "            let _ = at;\n        }\n    }\n\n    /// Sets both"),
    ("deadline: a silent origin", "src/exchange/progress.rs",
     "sending.map(|since| clock.deadline_from(since, response))", "sending.filter(|_| false).map(|since| clock.deadline_from(since, response))",
     "src/exchange/progress.rs", "answering.map(|since| clock.deadline_from(since, idle))", "answering.filter(|_| false).map(|since| clock.deadline_from(since, idle))"),
    ("deadline: an idle client", "src/downstream/deadline.rs",
     "                    None => earliest.add(Wait::Idle, since, idle),", "                    None => { let _ = idle; }"),
    ("deadline: a client that does not read", "src/downstream/deadline.rs",
     "        if let Some(since) = unread {\n            earliest.add(Wait::Read, since, body);", "        if let Some(since) = unread {\n            let _ = (since, body);"),
    ("deadline: an idle pooled connection", "src/upstream.rs",
     "        ring.set_deadline(connection.transport.socket(), Some(idle));", "        let _ = idle;"),
    ("deadline: moved by nothing but the progress that it guards", "src/runtime/stall.rs",
     "        } else if self.since.is_none() || self.moved != moved {", "        } else {"),
    ("a queue is bounded in pieces", "src/buffer/queue.rs",
     "queue.bytes() >= self.bytes || queue.pieces() >= self.pieces", "queue.bytes() >= self.bytes"),
    ("small pieces share a buffer", "src/buffer/queue.rs",
     "&& last.absorb(&mut lease, COALESCE_BYTES)", "&& last.absorb(&mut lease, 0)"),
    ("timers of an exchange end with it", "src/exchange/mod.rs",
     "        self.disarm(id, exchange.timeout);\n", ""),
    ("drain: no connection is kept", "src/downstream/h1.rs",
     "let keep_alive = !self.draining && ", "let keep_alive = "),
    ("reload: an update is applied while draining, too", "src/worker.rs",
     "        let engine = &mut self.engine;\n        let before = engine.apply(update.snapshot);", "        let engine = &mut self.engine;\n        if self.draining {\n            return;\n        }\n        let before = engine.apply(update.snapshot);"),
    ("reload: old snapshots are let go of", "src/downstream/mod.rs",
     "        self.retired.retain(|(id, _)| gone(*id) && (busy(*id) || engine.ring.is_accepting(*id)));", "        let _ = (busy, gone);"),
    ("reload: so is that of a listener that has come back", "src/downstream/mod.rs",
     "gone(*id) && (busy(*id)", "(busy(*id)"),
    ("reload: idle connections to what is gone are closed", "src/upstream.rs",
     "        let left: Vec<EndpointId> = self.pool.endpoints().filter(|endpoint| !stays(*endpoint)).collect();", "        let left: Vec<EndpointId> = self.pool.endpoints().filter(|endpoint| !stays(*endpoint)).take(0).collect();"),
    ("quota: places come back", "src/downstream/end.rs",
     "            quota.give(snapshot.quota(connection.listener), cap, self.workers);", "            let _ = (&quota, cap);"),
    ("descriptors: an idle connection makes room", "src/exchange/attempt.rs",
     "                    self.upstreams.close_idle(&mut self.ring);\n", ""),
    ("tunnel: the client's FIN goes on", "src/downstream/h1.rs",
     "                engine.end_upward(exchange);", ""),
]


def run():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=10_000)
    arguments.add_argument("--check", action="store_true", help="only say which guards are not found in the sources")
    arguments.add_argument("names", nargs="*", help="guards that contain one of these words")
    options = arguments.parse_args()
    guards = [guard for guard in GUARDS if not options.names or any(name in guard[0] for name in options.names)]
    texts = {edit[0]: (ROOT / edit[0]).read_text() for guard in guards for edit in edits(guard)}
    missing = [guard[0] for guard in guards if any(texts[file].count(old) != 1 for file, old, _ in edits(guard))]
    for name in missing:
        print(f"not found, or more than once: {name}", file=sys.stderr)
    if options.check or missing:
        return 1 if missing else 0
    copy = prepare()
    missed = 0
    for guard in guards:
        for file, old, new in edits(guard):
            (copy / file).write_text((copy / file).read_text().replace(old, new))
        try:
            found = seeds_to_find(copy, options.seeds)
        finally:
            for file, _, _ in edits(guard):
                (copy / file).write_text(texts[file])
        missed += found is None
        print(f"| {guard[0]} | {'**not found**' if found is None else found} |", flush=True)
    return 1 if missed else 0


def edits(guard):
    return [guard[at:at + 3] for at in range(1, len(guard), 3)]


def prepare():
    copy = ROOT / "target" / "mutants"
    copy.mkdir(parents=True, exist_ok=True)
    for name in ["Cargo.toml", "Cargo.lock", "src", "tests", "bench", "conf", "loadtest", "clippy.toml", "README.md"]:
        source, target = ROOT / name, copy / name
        if target.is_dir():
            shutil.rmtree(target)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy2(source, target)
    return copy


def seeds_to_find(copy, most):
    """The first seed that fails, plus one, or a note that the code does not build or does not end."""
    build = subprocess.run(["cargo", "test", "--test", "sim", "--no-run"], cwd=copy, capture_output=True, text=True)
    if build.returncode != 0:
        return "does not build: " + build.stderr.strip().splitlines()[0]
    binary = re.search(r"\((target/debug/deps/sim-[0-9a-f]+)\)", build.stderr)[1]
    first = 0
    while first < most:
        # Most are missed soon.
        count = min(500 if first else 100, most - first)
        environment = {"CAIRN_SIM_FIRST": str(first), "CAIRN_SIM_SEEDS": str(count), "RUST_BACKTRACE": "0", "PATH": "/usr/bin"}
        try:
            played = subprocess.run([copy / binary], env=environment, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return f"a world that does not end, within {first + count}"
        if played.returncode != 0:
            seeds = re.findall(r"^seed (\d+): (.*)$", played.stdout, re.MULTILINE)
            if not seeds:
                return "the process ends: " + played.stderr.strip().splitlines()[-1][:80]
            return f"{int(seeds[0][0]) + 1} ({seeds[0][1][:70]})"
        first += count
    return None


if __name__ == "__main__":
    sys.exit(run())
