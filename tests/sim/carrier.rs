//! A connection of HTTP/2 as a peer of the worker knows it, on either side: frames in and out, windows, states of streams. It is written
//! for this world alone, so that the worker's frames are judged by other code than its own; field sections are decoded with the worker's
//! HPACK, which has oracles of its own. Not here: what streams carry (`http2_client`, `http2_origin`).

use std::collections::{BTreeMap, VecDeque};

use cairn::http2::hpack::{DecodedField, Decoder, FieldSink, Next, SectionLimits, TABLE_BYTES, Table, table_memory};

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest window that there may be.
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Windows before anything else is said.
const WINDOW: i64 = 65_535;
/// Content of frames that nobody has allowed to be larger.
const FRAME: usize = 1 << 14;
/// The connection's credit is given back in parts of so many bytes.
const CREDIT: usize = 8_192;
/// A decoded field section has room in this.
const SECTION: usize = 48 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

/// Names and values, in their order.
pub(crate) type Section = Vec<(Vec<u8>, Vec<u8>)>;

/// The value of a field.
pub(crate) fn value<'a>(fields: &'a Section, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, value)| &value[..])
}

/// What the worker has sent.
#[derive(Debug)]
pub(crate) enum Heard {
    Head {
        stream: u32,
        fields: Section,
        end: bool,
    },
    Content {
        stream: u32,
        bytes: Vec<u8>,
        end: bool,
    },
    /// Fields behind the content, which end the message.
    Trailers {
        stream: u32,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    /// It takes no streams above `last`, because of this error of the peer's, if there is one.
    GoAway {
        last: u32,
        error: Option<String>,
    },
}

/// How a peer speaks HTTP/2.
#[derive(Clone, Debug)]
pub(crate) struct CarrierPlan {
    /// Windows of streams.
    pub(crate) window: u32,
    /// By how much the window of the connection is made larger.
    pub(crate) more_window: u32,
    /// Credit of streams is given back in parts of so many bytes.
    pub(crate) credit: usize,
    /// Streams that the worker may open at once.
    pub(crate) streams: u32,
    /// Content of a frame, at most.
    pub(crate) frame: usize,
    /// Bytes of padding of each frame of content.
    pub(crate) padding: u8,
    /// Field sections refer to what was sent before.
    pub(crate) indexes: bool,
    /// They are sent in fragments of so many bytes.
    pub(crate) fragment: usize,
}

#[derive(Debug, Default)]
struct Stream {
    /// What may be sent, and what may come.
    send: i64,
    receive: i64,
    /// What came and was not given back as credit.
    owed: usize,
    /// The worker has sent a head, but for interim ones.
    has_head: bool,
    ended_by_worker: bool,
    ended: bool,
    reset_by_worker: bool,
    reset: bool,
}

impl Stream {
    fn is_open(&self) -> bool {
        !(self.reset || self.reset_by_worker || self.ended && self.ended_by_worker)
    }
}

/// What the worker has said of itself.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) is_known: bool,
    window: i64,
    pub(crate) streams: usize,
    pub(crate) tunnels: bool,
}

/// A field section that is being received.
#[derive(Debug)]
struct Partial {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
}

pub(crate) struct Carrier {
    is_client: bool,
    plan: CarrierPlan,
    input: Vec<u8>,
    /// Frames for the wire.
    pub(crate) out: Vec<u8>,
    /// The client's preface is awaited.
    awaits_preface: bool,
    partial: Option<Partial>,
    decoder: Decoder<Vec<u8>>,
    encoder: Option<loona_hpack::Encoder<'static>>,
    streams: BTreeMap<u32, Stream>,
    pub(crate) told: Told,
    /// Windows of streams as they were announced, first the one that the worker knows to have been taken in.
    announced: VecDeque<i64>,
    acknowledged: bool,
    send: i64,
    /// The most that `send` was.
    send_most: i64,
    receive: i64,
    owed: usize,
    pings: VecDeque<[u8; 8]>,
    pinged: u64,
    /// What the worker takes no streams above.
    takes: Option<u32>,
    /// The next stream that is opened here, and the last that the worker has opened.
    next: u32,
    pub(crate) last: u32,
}

#[derive(Default)]
struct Collected(Section);

impl FieldSink for Collected {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        self.0.push((field.name(out).to_vec(), field.value(out).to_vec()));
        Next::At(0)
    }
}

impl Carrier {
    pub(crate) fn new(is_client: bool, plan: &CarrierPlan) -> Self {
        let mut carrier = Self {
            is_client,
            plan: plan.clone(),
            input: Vec::new(),
            out: Vec::new(),
            awaits_preface: !is_client,
            partial: None,
            decoder: Decoder::new(Table::new(vec![0; table_memory(TABLE_BYTES)], TABLE_BYTES)),
            encoder: plan.indexes.then(loona_hpack::Encoder::new),
            streams: BTreeMap::new(),
            told: Told { is_known: false, window: WINDOW, streams: usize::MAX, tunnels: false },
            announced: VecDeque::from([WINDOW]),
            acknowledged: false,
            send: WINDOW,
            send_most: WINDOW,
            receive: WINDOW,
            owed: 0,
            pings: VecDeque::new(),
            pinged: 0,
            takes: None,
            next: 1,
            last: 0,
        };
        if is_client {
            carrier.out.extend_from_slice(PREFACE);
        }
        carrier.announce(plan.window);
        if plan.more_window > 0 {
            carrier.receive += i64::from(plan.more_window);
            carrier.window_update(0, plan.more_window);
        }
        carrier
    }

    // What is sent.

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Sends SETTINGS with another window of streams.
    pub(crate) fn announce(&mut self, window: u32) {
        let mut settings = vec![(4u16, window)];
        if self.is_client {
            settings.push((2, 0));
        } else {
            settings.push((3, self.plan.streams));
            settings.push((8, 1));
        }
        let payload: Vec<u8> = settings
            .into_iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.announced.push_back(i64::from(window));
        self.frame(SETTINGS, 0, 0, &payload);
    }

    fn window_update(&mut self, stream: u32, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// Lets more come on a stream.
    pub(crate) fn grant(&mut self, stream: u32, bytes: u32) {
        if let Some(it) = self.streams.get_mut(&stream).filter(|it| it.is_open() && !it.ended_by_worker) {
            it.receive += i64::from(bytes);
            self.window_update(stream, bytes);
        }
    }

    pub(crate) fn ping(&mut self) {
        self.pinged += 1;
        let data = self.pinged.to_be_bytes();
        self.pings.push_back(data);
        self.frame(PING, 0, 0, &data);
    }

    pub(crate) fn go_away(&mut self, last: u32) {
        let payload = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
        self.frame(GOAWAY, 0, 0, &payload);
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        let Some(it) = self.streams.get_mut(&stream).filter(|it| it.is_open()) else { return };
        it.reset = true;
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Opens a stream with the head of a request.
    pub(crate) fn open(&mut self, fields: &Section, end: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.add(stream);
        self.head(stream, fields, end);
        stream
    }

    fn add(&mut self, stream: u32) {
        let receive = self.announced.front().copied().unwrap_or(WINDOW);
        self.streams.insert(stream, Stream { send: self.told.window, receive, ..Stream::default() });
    }

    pub(crate) fn head(&mut self, stream: u32, fields: &Section, end: bool) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        it.ended |= end;
        let section = match &mut self.encoder {
            Some(encoder) => encoder.encode(fields.iter().map(|(name, value)| (&name[..], &value[..]))),
            None => literals(fields),
        };
        let mut rest = &section[..];
        let mut kind = HEADERS;
        loop {
            let (fragment, behind) = rest.split_at(rest.len().min(self.plan.fragment));
            let ends = if behind.is_empty() { END_HEADERS } else { 0 };
            let flags = ends | if end && kind == HEADERS { END_STREAM } else { 0 };
            let fragment = fragment.to_vec();
            self.frame(kind, flags, stream, &fragment);
            if behind.is_empty() {
                return;
            }
            (kind, rest) = (CONTINUATION, behind);
        }
    }

    /// How much content may be sent on a stream in one frame.
    pub(crate) fn room(&self, stream: u32) -> usize {
        let Some(it) = self.streams.get(&stream).filter(|it| it.is_open() && !it.ended) else { return 0 };
        let window = usize::try_from(it.send.min(self.send)).unwrap_or(0);
        window.min(FRAME).saturating_sub(self.overhead()).min(self.plan.frame)
    }

    /// What padding takes of a window.
    fn overhead(&self) -> usize {
        if self.plan.padding > 0 { 1 + usize::from(self.plan.padding) } else { 0 }
    }

    /// Sends a frame of content, for which there has to be room.
    pub(crate) fn content(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let overhead = if bytes.is_empty() { 0 } else { self.overhead() };
        let Some(it) = self.streams.get_mut(&stream) else { return };
        let flow = (bytes.len() + overhead) as i64;
        it.send -= flow;
        self.send -= flow;
        it.ended |= end;
        let flags = if end { END_STREAM } else { 0 };
        if overhead == 0 {
            return self.frame(DATA, flags, stream, bytes);
        }
        let padding = vec![0; usize::from(self.plan.padding)];
        let payload = [&[self.plan.padding][..], bytes, &padding].concat();
        self.frame(DATA, flags | PADDED, stream, &payload);
    }

    /// Takes in that content of a stream was read: gives credit back, in parts.
    pub(crate) fn consumed(&mut self, stream: u32, bytes: usize) {
        let window = self.announced.back().copied().unwrap_or(WINDOW);
        let Some(it) = self.streams.get_mut(&stream) else { return };
        it.owed += bytes;
        let part = self.plan.credit.min(usize::try_from(window / 2).unwrap_or(0)).max(1);
        if it.owed >= part {
            let owed = std::mem::take(&mut it.owed);
            self.grant(stream, owed as u32);
        }
    }

    // What is received.

    /// Whether the worker takes new streams.
    pub(crate) fn takes_streams(&self) -> bool {
        self.takes.is_none()
    }

    /// What has to be true of a connection without streams that the worker has ended, of which it has read everything.
    pub(crate) fn check_rest(&self) -> Result<(), String> {
        if !self.told.is_known {
            return Ok(());
        }
        if self.announced.len() > 1 {
            return Err("SETTINGS that were never acknowledged".to_owned());
        }
        if !self.pings.is_empty() {
            return Err("PING that was never answered".to_owned());
        }
        // Credit comes back when half of a window is free.
        if self.send * 2 <= self.send_most {
            return Err(format!(
                "{} of {} bytes of the connection's window are left at rest",
                self.send, self.send_most
            ));
        }
        Ok(())
    }

    /// Takes in bytes of the wire.
    ///
    /// # Errors
    /// What the worker may not send.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, String> {
        self.input.extend_from_slice(bytes);
        let mut heard = Vec::new();
        let mut at = 0;
        if self.awaits_preface {
            if self.input.len() < PREFACE.len() {
                return Ok(heard);
            }
            if !self.input.starts_with(PREFACE) {
                return Err(format!("no preface: {:?}", String::from_utf8_lossy(&self.input[..PREFACE.len()])));
            }
            (self.awaits_preface, at) = (false, PREFACE.len());
        }
        let input = std::mem::take(&mut self.input);
        while let Some(head) = input.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME {
                let text = String::from_utf8_lossy(&input[at..input.len().min(at + 40)]).into_owned();
                return Err(format!("a frame of {length} bytes: {text:?}"));
            }
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = input.get(at + 9..at + 9 + length) else { break };
            at += 9 + length;
            self.take_frame(kind, flags, stream, payload, &mut heard)?;
        }
        self.input = input[at..].to_vec();
        Ok(heard)
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        heard: &mut Vec<Heard>,
    ) -> Result<(), String> {
        if !self.told.is_known && kind != SETTINGS {
            return Err(format!("a frame of kind {kind} before SETTINGS"));
        }
        if self.partial.is_some() != (kind == CONTINUATION) {
            return Err(format!("a frame of kind {kind} where CONTINUATION is due, or is not"));
        }
        match kind {
            DATA => self.take_data(flags, stream, payload, heard)?,
            HEADERS => {
                self.partial = Some(Partial { stream, end: flags & END_STREAM != 0, bytes: payload.to_vec() });
                self.end_section(flags, stream, heard)?;
            }
            CONTINUATION => {
                self.partial.iter_mut().for_each(|partial| partial.bytes.extend_from_slice(payload));
                self.end_section(flags, stream, heard)?;
            }
            SETTINGS if flags & ACK != 0 => self.take_acknowledgement()?,
            SETTINGS => self.take_settings(payload)?,
            PING if flags & ACK != 0 => {
                if self.pings.pop_front().is_none_or(|data| data != payload) {
                    return Err("an answer to no PING".to_owned());
                }
            }
            PING => self.frame(PING, ACK, 0, payload),
            GOAWAY => {
                let last = number(payload, 0)? & 0x7fff_ffff;
                let code = number(payload, 4)?;
                let error =
                    (code != NO_ERROR).then(|| format!("GOAWAY: {code} {}", String::from_utf8_lossy(&payload[8..])));
                if self.takes.is_some_and(|before| last > before) {
                    return Err("GOAWAY with a higher stream than before".to_owned());
                }
                self.takes = Some(last);
                heard.push(Heard::GoAway { last, error });
            }
            WINDOW_UPDATE => self.take_window_update(stream, number(payload, 0)?)?,
            RST_STREAM => {
                let code = number(payload, 0)?;
                let it = self.streams.get_mut(&stream).ok_or("RST_STREAM on an idle stream")?;
                if std::mem::replace(&mut it.reset_by_worker, true) {
                    return Err(format!("stream {stream} is reset twice"));
                }
                heard.push(Heard::Reset { stream, code });
            }
            _ => return Err(format!("a frame of kind {kind}")),
        }
        Ok(())
    }

    fn take_data(&mut self, flags: u8, stream: u32, payload: &[u8], heard: &mut Vec<Heard>) -> Result<(), String> {
        let flow = payload.len();
        self.receive -= flow as i64;
        if self.receive < 0 {
            return Err(format!("the connection's window is overrun by {}", -self.receive));
        }
        self.owed += flow;
        if self.owed >= CREDIT {
            let owed = std::mem::take(&mut self.owed);
            self.receive += owed as i64;
            self.window_update(0, owed as u32);
        }
        let it = self.streams.get_mut(&stream).ok_or("DATA on an idle stream")?;
        if it.reset_by_worker || it.ended_by_worker {
            return Err(format!("DATA on stream {stream}, which has ended"));
        }
        if !it.has_head {
            return Err(format!("DATA before HEADERS on stream {stream}"));
        }
        it.receive -= flow as i64;
        if it.receive < 0 && !it.reset {
            return Err(format!("the window of stream {stream} is overrun by {}", -it.receive));
        }
        let end = flags & END_STREAM != 0;
        it.ended_by_worker = end;
        if !it.reset {
            heard.push(Heard::Content { stream, bytes: payload.to_vec(), end });
        }
        Ok(())
    }

    fn end_section(&mut self, flags: u8, stream: u32, heard: &mut Vec<Heard>) -> Result<(), String> {
        if self.partial.as_ref().is_some_and(|partial| partial.stream != stream) {
            return Err("CONTINUATION of another stream".to_owned());
        }
        let Some(Partial { end, bytes, .. }) = self.partial.take_if(|_| flags & END_HEADERS != 0) else {
            return Ok(());
        };
        let mut fields = Collected::default();
        self.decoder.begin(SectionLimits { list_bytes: SECTION as u32, fields: 1_000 });
        let mut out = vec![0; SECTION];
        let decoded = self.decoder.fragment(&bytes, &mut out, &mut fields);
        decoded.and_then(|()| self.decoder.end()).map_err(|error| format!("a field section: {error:?}"))?;
        let fields = fields.0;
        if fields.iter().any(|(name, _)| name.iter().any(u8::is_ascii_uppercase)) {
            return Err(format!("a name in upper case on stream {stream}"));
        }
        if !self.is_client && !self.streams.contains_key(&stream) {
            self.take_stream(stream)?;
        }
        let it = self.streams.get_mut(&stream).ok_or("HEADERS on an idle stream")?;
        if it.reset_by_worker || it.ended_by_worker {
            return Err(format!("HEADERS on stream {stream}, which has ended"));
        }
        it.ended_by_worker = end;
        let is_trailers = it.has_head;
        let is_interim = value(&fields, ":status").is_some_and(|status| status.starts_with(b"1"));
        it.has_head |= !is_interim;
        if is_trailers && (!end || fields.iter().any(|(name, _)| name.starts_with(b":"))) || is_interim && end {
            return Err(format!("HEADERS in the wrong place on stream {stream}"));
        }
        if it.reset {
            return Ok(());
        }
        heard.push(if is_trailers { Heard::Trailers { stream } } else { Heard::Head { stream, fields, end } });
        Ok(())
    }

    /// The worker opens a stream.
    fn take_stream(&mut self, stream: u32) -> Result<(), String> {
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(format!("stream {stream} is opened behind stream {}", self.last));
        }
        if !self.acknowledged {
            return Err("a stream is opened before SETTINGS were taken in".to_owned());
        }
        let open = self.streams.values().filter(|it| it.is_open()).count();
        if open >= self.plan.streams as usize {
            return Err(format!("{} streams are open at once", open + 1));
        }
        self.last = stream;
        self.add(stream);
        Ok(())
    }

    fn take_acknowledgement(&mut self) -> Result<(), String> {
        let (Some(before), Some(now)) = (self.announced.pop_front(), self.announced.front()) else {
            return Err("an acknowledgement of nothing".to_owned());
        };
        self.acknowledged = true;
        self.streams.values_mut().for_each(|it| it.receive += now - before);
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), String> {
        self.told.is_known = true;
        for setting in payload.chunks(6) {
            let (name, value) = (u16::from_be_bytes([setting[0], setting[1]]), number(setting, 2)?);
            match name {
                3 => self.told.streams = value as usize,
                4 => {
                    let by = i64::from(value) - self.told.window;
                    self.told.window += by;
                    self.streams.values_mut().for_each(|it| it.send += by);
                }
                8 => self.told.tunnels = value == 1,
                _ => {}
            }
        }
        self.frame(SETTINGS, ACK, 0, b"");
        Ok(())
    }

    fn take_window_update(&mut self, stream: u32, bytes: u32) -> Result<(), String> {
        let window = if stream == 0 {
            self.send += i64::from(bytes);
            self.send_most = self.send_most.max(self.send);
            self.send
        } else {
            let it = self.streams.get_mut(&stream).ok_or("WINDOW_UPDATE on an idle stream")?;
            if it.reset_by_worker {
                return Err(format!("WINDOW_UPDATE on stream {stream}, which was reset"));
            }
            it.send += i64::from(bytes);
            it.send
        };
        if bytes == 0 || window > WINDOW_MAX {
            return Err(format!("WINDOW_UPDATE by {bytes} to {window} on stream {stream}"));
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, String> {
    let bytes = bytes.get(at..at + 4).ok_or("a frame that is too short")?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// A field section that refers to nothing, in plain text.
fn literals(fields: &Section) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let mut left = text.len();
            if left < 127 {
                bytes.push(left as u8);
            } else {
                bytes.push(127);
                left -= 127;
                while left >= 128 {
                    bytes.push((left % 128 + 128) as u8);
                    left /= 128;
                }
                bytes.push(left as u8);
            }
            bytes.extend_from_slice(text);
        }
    }
    bytes
}
