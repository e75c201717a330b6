//! Two tiny origins in this process, so that `cairn run` shows something without any other program.
//! Not here: the routes to them (`conf/demo.toml`).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::oneshot;

/// Pause after a failed accept, in which descriptors may become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Descriptors of the event loop, and of one connection of each origin.
const DESCRIPTORS: usize = 10;

/// Handle of the origins' thread. Dropping it ends them.
#[derive(Debug)]
pub struct Demo {
    addresses: [SocketAddr; 2],
    _stop: oneshot::Sender<Infallible>,
}

/// Starts both origins on free ports of the loopback.
///
/// # Errors
/// A port, the thread or the event loop cannot be had.
pub fn start() -> io::Result<Demo> {
    let listeners = [bind()?, bind()?];
    let addresses = [listeners[0].local_addr()?, listeners[1].local_addr()?];
    // tokio panics if descriptors run out while it starts, so their number is tried out first.
    let spare = (0..DESCRIPTORS).map(|_| listeners[0].try_clone()).collect::<io::Result<Vec<_>>>()?;
    drop(spare);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    thread::Builder::new().name("cairn-demo".to_owned()).spawn(move || runtime.block_on(serve(listeners, stopped)))?;
    Ok(Demo { addresses, _stop: stop })
}

impl Demo {
    /// Addresses of `hello` and `echo`.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }
}

fn bind() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the sender of `stopped` is dropped.
async fn serve(listeners: [TcpListener; 2], stopped: oneshot::Receiver<Infallible>) -> io::Result<()> {
    let [hello_listener, echo_listener] = listeners;
    tokio::spawn(accept(tokio::net::TcpListener::from_std(hello_listener)?, hello));
    tokio::spawn(accept(tokio::net::TcpListener::from_std(echo_listener)?, echo));
    let _ = stopped.await;
    Ok(())
}

async fn accept<F, B>(listener: tokio::net::TcpListener, answer: fn(Request<Incoming>) -> F)
where
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

/// Answers with the request that it received, as JSON.
async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let headers = request.headers().iter();
    let headers: Vec<_> =
        headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
    let seen = json!({
        "origin": "hello",
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    });
    let mut response = Response::new(Full::from(format!("{seen:#}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Answers with the request's body, as it arrives.
async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn origins_answer() {
        let demo = start().unwrap();
        let [hello, echo] = demo.addresses();
        let response = exchange(hello, "GET /hello/you HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        for part in ["HTTP/1.1 200 OK\r\n", "application/json", "\"target\": \"/hello/you\"", "\"host: a\""] {
            assert!(response.contains(part), "{part} is not in {response}");
        }
        let request =
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nwords";
        let response = exchange(echo, request);
        for part in ["HTTP/1.1 200 OK\r\n", "content-type: text/x\r\n", "\r\n\r\nwords"] {
            assert!(response.contains(part), "{part} is not in {response}");
        }
    }
}
