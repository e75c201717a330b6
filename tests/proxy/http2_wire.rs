//! A side of a connection of HTTP/2, the origin's as a rule, frame by frame: fields are decoded by another implementation, and written as literals.
//! Not here: what an origin does with them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::Wire;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

/// A parameter of SETTINGS.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// Another one (RFC 8441 section 3).
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends the message of its stream.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error that RST_STREAM holds.
    pub(crate) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) stream: u32,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Request {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A connection.
pub(crate) struct H2Wire<S = TcpStream> {
    wire: Wire<S>,
    decoder: loona_hpack::Decoder<'static>,
    /// Requests that have begun.
    open: Vec<Request>,
    /// Whether PING is answered.
    pub(crate) answers_pings: bool,
}

impl<S: Read + Write> H2Wire<S> {
    /// Reads the client's preface and sends SETTINGS. None: the client has gone.
    pub(crate) fn accept(wire: Wire<S>, settings: &[(u16, u32)]) -> Option<Self> {
        let mut this = Self::silent(wire)?;
        this.settings(settings);
        Some(this)
    }

    /// Reads the client's preface.
    pub(crate) fn silent(mut wire: Wire<S>) -> Option<Self> {
        let first = wire.until(b"SM\r\n\r\n")?;
        assert_eq!(first.as_bytes(), PREFACE);
        Some(Self { wire, decoder: loona_hpack::Decoder::new(), open: Vec::new(), answers_pings: true })
    }

    /// The client's side: sends the preface and SETTINGS.
    pub(crate) fn connect(mut wire: Wire<S>) -> Self {
        wire.stream.write_all(PREFACE).unwrap();
        let mut this = Self { wire, decoder: loona_hpack::Decoder::new(), open: Vec::new(), answers_pings: true };
        this.settings(&[]);
        this
    }

    /// Sends SETTINGS.
    pub(crate) fn settings(&mut self, settings: &[(u16, u32)]) {
        let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.send(SETTINGS, 0, 0, &settings.iter().flat_map(pair).collect::<Vec<_>>());
    }

    /// Sends a frame. That the client has gone is no failure.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        let _ = self.wire.stream.write_all(&[&head, payload].concat());
    }

    /// The next frame. SETTINGS and PING are answered, and content is credited. None: the connection has ended.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let head = self.wire.bytes(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = self.wire.bytes(length as usize)?;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 && self.answers_pings => self.send(PING, ACK, 0, &frame.payload),
            DATA if !frame.payload.is_empty() => {
                let credit = length.to_be_bytes();
                self.send(WINDOW_UPDATE, 0, 0, &credit);
                if !frame.ends() {
                    self.send(WINDOW_UPDATE, 0, frame.stream, &credit);
                }
            }
            _ => {}
        }
        Some(frame)
    }

    /// The fields of a HEADERS frame.
    pub(crate) fn fields(&mut self, frame: &Frame) -> Vec<(String, String)> {
        assert_eq!((frame.kind, frame.flags & END_HEADERS), (HEADERS, END_HEADERS));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let fields = self.decoder.decode(&frame.payload).unwrap();
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The head of the next request. None: the connection has ended.
    pub(crate) fn head(&mut self) -> Option<(Request, bool)> {
        loop {
            let frame = self.frame()?;
            if frame.kind == HEADERS {
                let fields = self.fields(&frame);
                return Some((Request { stream: frame.stream, fields, ..Request::default() }, frame.ends()));
            }
        }
    }

    /// The next request that is whole. None: the connection has ended.
    pub(crate) fn request(&mut self) -> Option<Request> {
        loop {
            let frame = self.frame()?;
            let known = self.open.iter().position(|request| request.stream == frame.stream);
            match (frame.kind, known) {
                (HEADERS, None) => {
                    let fields = self.fields(&frame);
                    self.open.push(Request { stream: frame.stream, fields, ..Request::default() });
                }
                (HEADERS, Some(at)) => self.open[at].trailers = self.fields(&frame),
                (DATA, Some(at)) => self.open[at].body.extend(&frame.payload),
                (RST_STREAM, Some(at)) => drop(self.open.remove(at)),
                _ => {}
            }
            if frame.ends() {
                let at = self.open.iter().position(|request| request.stream == frame.stream)?;
                return Some(self.open.remove(at));
            }
        }
    }

    /// Sends fields.
    pub(crate) fn headers(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127, "lengths of one byte");
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &block);
    }

    /// Sends a response with content.
    pub(crate) fn answer(&mut self, stream: u32, content: &[u8]) {
        self.headers(stream, &[(":status", "200")], false);
        self.send(DATA, END_STREAM, stream, content);
    }

    /// Sends RST_STREAM.
    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Sends GOAWAY.
    pub(crate) fn go_away(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }
}

impl H2Wire {
    /// Closes the connection.
    pub(crate) fn close(self) {
        let _ = self.wire.stream.shutdown(std::net::Shutdown::Both);
    }
}
