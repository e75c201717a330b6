//! Cost of a whole exchange in memory: a client, a real worker and an origin on Unix sockets, each with a thread. What is timed is
//! the round trip, so pin to one CPU to see work and not waiting. Each case checks its answers. Not here: TCP.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use cairn::id::WorkerId;
use cairn::snapshot::Ledger;
use cairn::worker::{Order, Worker};
use cairn::{config, listener, runtime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const REQUEST: &[u8] = b"GET /orders/7 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
/// Requests that are under way at a time in the pipelined case.
const DEPTH: usize = 16;

/// Answers each request with a body of so many bytes.
fn origin(listener: &UnixListener, size: usize) {
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes(), vec![b'x'; size]].concat();
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream.expect("a connection"), answer.clone());
        std::thread::spawn(move || {
            let (mut buffer, mut seen) = ([0; 16 << 10], Vec::new());
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                    seen.drain(..end + 4);
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Sends `count` requests at once and reads as many answers of `length` bytes.
fn exchange(client: &mut UnixStream, count: usize, answers: &mut [u8]) {
    let requests = REQUEST.repeat(count);
    client.write_all(&requests).expect("the worker reads");
    client.read_exact(answers).expect("the worker answers");
}

/// The length of the first answer, whose head is the worker's.
fn length_of_answer(client: &mut UnixStream, size: usize) -> usize {
    client.write_all(REQUEST).expect("the worker reads");
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let count = client.read(&mut buffer).expect("the worker answers");
        answer.extend_from_slice(&buffer[..count]);
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if count == 0 || head.is_some_and(|end| answer.len() >= end + 4 + size) {
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"x"));
            return answer.len();
        }
    }
}

fn measure(criterion: &mut Criterion, folder: &Path, size: usize) {
    let (front, back) = (folder.join(format!("front-{size}")), folder.join(format!("back-{size}")));
    let upstream = UnixListener::bind(&back).expect("a socket");
    std::thread::spawn(move || origin(&upstream, size));
    let text = format!(
        "[[listener]]\nname = 'l'\nbind = 'unix:{}'\n[[route]]\nname = 'r'\ncluster = 'c'\n\
         [[cluster]]\nname = 'c'\nendpoints = ['unix:{}']\n",
        front.display(),
        back.display()
    );
    let snapshot = Arc::new(
        config::parse("bench.toml", &text).expect("valid").compile(1, &mut Ledger::default()).expect("compiles"),
    );
    let (mut sockets, _) = listener::open(snapshot.listeners(), 1, &Vec::new()).expect("a socket");
    let sockets = sockets.remove(0);
    let (started, start) = mpsc::channel();
    let cpu = runtime::allowed_cpus().expect("an affinity mask")[0];
    let executor = runtime::spawn("bench", cpu, move |background| async move {
        let (worker, handle) = Worker::new(WorkerId(0), 1, snapshot, sockets).expect("a ring");
        started.send(handle).expect("a waiting bench");
        worker.run(background).await
    });
    let executor = executor.expect("an executor");
    let handle = start.recv().expect("a worker");

    let mut client = UnixStream::connect(&front).expect("a connection");
    let length = length_of_answer(&mut client, size);
    for (case, count) in [("one at a time", 1), ("16 pipelined", DEPTH)] {
        let mut group = criterion.benchmark_group("exchange");
        let mut answers = vec![0; length * count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{size} bytes, {case}"), |bencher| {
            bencher.iter(|| exchange(&mut client, count, &mut answers));
        });
        let whole = answers.chunks(length).all(|answer| answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"x"));
        assert!(whole, "{size} bytes, {case}: every answer is whole");
    }
    handle.order(Order::Stop);
    executor.join().expect("no panic").expect("no fault");
}

fn exchanges(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for size in [64, 16 << 10] {
        measure(criterion, folder.path(), size);
    }
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
