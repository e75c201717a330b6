//! A whole worker on real sockets. The input is a script of steps for one client and its origins: bytes of the client, bytes of
//! the origin, half-closes and closes. Whatever happens, nothing may be left of it afterwards.
#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use cairn::id::WorkerId;
use cairn::snapshot::Ledger;
use cairn::worker::{Load, Worker};
use cairn::{config, listener};
use libfuzzer_sys::fuzz_target;

struct World {
    worker: Worker,
    origin: UnixListener,
    path: std::path::PathBuf,
    at_rest: Load,
    /// Room for what peers are sent, which nobody looks at.
    spare: Box<[u8]>,
    _folder: tempfile::TempDir,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, upstream) = (folder.path().join("in"), folder.path().join("out"));
        let text = format!(
            "[[listener]]\nname = \"l\"\nbind = \"unix:{}\"\ntrusted_proxies = []\nlimits = {{ body_bytes = \"64KiB\" }}\n\
             [[route]]\nname = \"r\"\ncluster = \"c\"\n\
             [[route]]\nname = \"t\"\nmethods = [\"CONNECT\"]\ncluster = \"c\"\n\
             [[route]]\nname = \"a\"\npath_prefix = \"/answer\"\nrespond = {{ body = \"here\" }}\n\
             [[route]]\nname = \"m\"\npath_prefix = \"/moved\"\nredirect = {{ path = \"/\" }}\n\
             [[cluster]]\nname = \"c\"\nendpoints = [\"unix:{}\"]\n",
            path.display(),
            upstream.display()
        );
        let origin = UnixListener::bind(&upstream).expect("an origin");
        origin.set_nonblocking(true).expect("a socket");
        let config = config::parse("fuzz.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        let snapshot = Arc::new(config.compile(1, &mut Ledger::default()).expect("compiles"));
        let (mut sockets, _) = listener::open(snapshot.listeners(), 1, &Vec::new()).expect("a listener");
        let (mut worker, _) = Worker::new(WorkerId(0), 1, snapshot, sockets.remove(0)).expect("a ring");
        // The first turn offers buffers to the kernel.
        worker.turn(false).expect("a ring");
        let at_rest = worker.load();
        Self { worker, origin, path, at_rest, spare: vec![0; 64 * 1024].into(), _folder: folder }
    }

    fn turn(&mut self) {
        self.worker.turn(false).expect("a ring");
    }

    fn play(&mut self, script: &[u8]) {
        let mut client = Some(UnixStream::connect(&self.path).expect("a worker"));
        client.as_ref().expect("a client").set_nonblocking(true).expect("a socket");
        let (mut origins, mut rest) = (Vec::<UnixStream>::new(), script);
        while let Some((&step, after)) = rest.split_first() {
            rest = after;
            let length = usize::from(step >> 3).min(rest.len());
            let mut take = |factor: usize| {
                let (part, after) = rest.split_at((length * factor).min(rest.len()));
                rest = after;
                part
            };
            // A step that changes nothing is not worth a turn.
            let changes = match step & 7 {
                0..=2 => write(client.as_mut(), take(16)),
                3..=4 => write(origins.last_mut(), take(16)),
                5 => half_close(client.as_ref()),
                6 if step >> 3 == 0 => client.take().is_some(),
                6 => half_close(origins.last()),
                _ if step >> 3 == 0 => origins.pop().is_some(),
                _ => {
                    client.iter_mut().chain(&mut origins).for_each(|socket| swallow(socket, &mut self.spare));
                    true
                }
            };
            if changes {
                self.turn();
                self.meet(&mut origins);
            }
        }
        client.iter_mut().chain(&mut origins).for_each(|socket| swallow(socket, &mut self.spare));
        drop((client, origins));
        // A cancellation, a close and a retry each take a turn or two.
        for _ in 0..64 {
            self.turn();
            if self.is_clean() {
                while self.origin.accept().is_ok() {}
                return;
            }
            while self.origin.accept().is_ok() {}
        }
        panic!("left over: {:?}, at rest {:?}", self.worker.load(), self.at_rest);
    }

    /// Accepts what an exchange connects. The first connection takes a few turns; it is waited for, so that what follows in the
    /// script gets to it.
    fn meet(&mut self, origins: &mut Vec<UnixStream>) {
        for _ in 0..4 {
            if self.worker.load().exchanges == 0 {
                return;
            }
            while let Ok((origin, _)) = self.origin.accept() {
                origin.set_nonblocking(true).expect("a socket");
                origins.push(origin);
            }
            if !origins.is_empty() {
                return;
            }
            self.turn();
        }
    }

    fn is_clean(&self) -> bool {
        let load = self.worker.load();
        // Buffers that were used are on the free list now, not offered any more: there can be more than at rest.
        load.downstreams == 0 && load.exchanges == 0 && load.free_buffers >= self.at_rest.free_buffers
    }
}

/// Whether there was a socket and something to write.
fn write(socket: Option<&mut UnixStream>, bytes: &[u8]) -> bool {
    // A full or closed socket is one more thing that may happen.
    socket.is_some_and(|socket| socket.write(bytes).is_ok_and(|count| count > 0))
}

fn half_close(socket: Option<&UnixStream>) -> bool {
    socket.is_some_and(|socket| socket.shutdown(std::net::Shutdown::Write).is_ok())
}

fn swallow(socket: &mut UnixStream, spare: &mut [u8]) {
    // Less than there is room for is all that has come.
    while matches!(socket.read(spare), Ok(count) if count == spare.len()) {}
}

fuzz_target!(|script: &[u8]| WORLD.with_borrow_mut(|world| world.play(script)));
