//! The bare forwarder.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::harness::{Floor, Origin, report};

#[test]
fn bytes_go_through_as_they_are() {
    let origin = Origin::start(&[]);
    let floor = Floor::before(&origin.url);
    for (path, load) in [
        ("/size/1000000", "-n 40 -c 4 --threads 1 --expect-length 1000000"),
        ("/receipt", "-n 20 -c 4 --threads 1 --body-size 1000000"),
        ("/", "-n 500 -c 20 --threads 1"),
        ("/", "-n 100 -c 5 --threads 1 --close"),
        ("/", "-n 400 -c 2 --threads 1 --http2 --streams 8"),
    ] {
        let report = report(&format!("{}{path}", floor.url), load);
        assert_eq!(report["answered"], report["sent"], "{load}: {report}");
    }
}

#[test]
fn the_end_of_each_direction_is_passed_on() {
    let origin = Origin::start(&[]);
    let floor = Floor::before(&origin.url);
    let mut stream = TcpStream::connect(floor.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /size/300000 HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.len() > 300_000, "{} bytes", answer.len());
}

#[test]
fn a_reader_that_is_slow_slows_its_writer_down() {
    // More than both kernels' buffers and the forwarder's queue hold.
    const BYTES: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // It ends when all was taken; if nobody paused it, the forwarder would have run out of buffers.
        stream.write_all(&vec![b'z'; BYTES]).unwrap();
    });
    let floor = Floor::before(&format!("http://{address}"));
    let mut stream = TcpStream::connect(floor.url.strip_prefix("http://").unwrap()).unwrap();
    let (mut read, mut piece) = (0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => read += count,
        }
    }
    served.join().unwrap();
    assert_eq!(read, BYTES);
}
