//! What a line can tell of an exchange: the keys of JSON and logfmt, and the variables of templates. Not here: how values are written
//! (`format`).

use std::fmt;
use std::time::Duration;

use super::entry::{Entry, Text};

/// What can be told of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// One of [`FIELDS`], by position.
    Field(usize),
    /// `header.NAME`: a field of the request, in lower case.
    Header(Box<str>),
}

/// What one key tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// When the exchange began, RFC 3339.
    Time,
    /// The same as combined logs write it.
    ClfTime,
    /// The same in seconds since 1970.
    UnixTime,
    Text(Text),
    TraceId,
    Port,
    Attempts,
    Protocol,
    Status,
    Received,
    Sent,
    Phase(Phase),
}

/// A time that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Tls,
    Head,
    Queue,
    Connect,
    FirstByte,
    Total,
    Own,
}

/// A value as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    /// Bytes, and whether they were cut.
    Text(&'a [u8], bool),
    Number(u64),
    Time(Duration),
}

/// All that can be told, in the order of a line: key in JSON and logfmt (empty: not there), name in templates, what it is.
/// The names of fields that are always kept stand for them in any letter case.
pub(super) const FIELDS: [(&str, &str, Field); 34] = [
    ("time", "time.iso", Field::Time),
    ("", "time.clf", Field::ClfTime),
    ("", "time.unix", Field::UnixTime),
    ("client", "client.ip", Field::Text(Text::Client)),
    ("client_port", "client.port", Field::Port),
    ("client_identity", "client.identity", Field::Text(Text::ClientIdentity)),
    ("listener", "listener.name", Field::Text(Text::Listener)),
    ("tenant", "tenant.name", Field::Text(Text::Tenant)),
    ("route", "route.name", Field::Text(Text::Route)),
    ("cluster", "cluster.name", Field::Text(Text::Cluster)),
    ("endpoint", "endpoint.address", Field::Text(Text::Endpoint)),
    ("attempts", "request.attempts", Field::Attempts),
    ("method", "request.method", Field::Text(Text::Method)),
    ("authority", "request.authority", Field::Text(Text::Authority)),
    ("path", "request.path", Field::Text(Text::Path)),
    ("query", "request.query", Field::Text(Text::Query)),
    ("protocol", "request.protocol", Field::Protocol),
    ("status", "response.status", Field::Status),
    ("reason", "response.reason", Field::Text(Text::Reason)),
    ("received_bytes", "request.bytes", Field::Received),
    ("sent_bytes", "response.bytes", Field::Sent),
    ("tls_ms", "duration.tls", Field::Phase(Phase::Tls)),
    ("head_ms", "duration.head", Field::Phase(Phase::Head)),
    ("queue_ms", "duration.queue", Field::Phase(Phase::Queue)),
    ("connect_ms", "duration.connect", Field::Phase(Phase::Connect)),
    ("first_byte_ms", "duration.first_byte", Field::Phase(Phase::FirstByte)),
    ("total_ms", "duration.total", Field::Phase(Phase::Total)),
    ("own_ms", "duration.own", Field::Phase(Phase::Own)),
    ("tls_version", "tls.version", Field::Text(Text::TlsVersion)),
    ("tls_sni", "tls.sni", Field::Text(Text::TlsSni)),
    ("request_id", "request.id", Field::Text(Text::RequestId)),
    ("trace_id", "request.trace_id", Field::TraceId),
    ("referer", "header.referer", Field::Text(Text::Referer)),
    ("user_agent", "header.user-agent", Field::Text(Text::UserAgent)),
];

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(at) => f.write_str(FIELDS.get(*at).map_or("", |(_, name, _)| name)),
            Self::Header(name) => write!(f, "header.{name}"),
        }
    }
}

impl Variable {
    /// The variable of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = match name.strip_prefix("header.") {
            Some(header) => format!("header.{}", header.to_ascii_lowercase()),
            None => name.to_owned(),
        };
        if let Some(at) = FIELDS.iter().position(|(_, known, _)| *known == name) {
            return Some(Self::Field(at));
        }
        let header = name.strip_prefix("header.")?;
        let token = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        (!header.is_empty() && header.bytes().all(token)).then(|| Self::Header(header.into()))
    }

    /// The names of all variables, as a help shows them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let named = FIELDS.iter().map(|(_, name, _)| *name).filter(|name| !name.starts_with("header."));
        std::iter::once("header.NAME").chain(named)
    }

    /// The name of the field of a request that it is, if workers keep it only where it is asked for.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        if let Self::Header(name) = self { Some(name) } else { None }
    }
}

impl Field {
    /// The value of an exchange. Times are those of `wall`, the wall clock when the clock of workers shows zero.
    pub(super) fn value<'a>(self, entry: &Entry<'a>, wall: Duration) -> Value<'a> {
        let numbers = &entry.numbers;
        let phase = |time: Option<Duration>| time.map_or(Value::None, Value::Time);
        match self {
            Self::Time | Self::ClfTime | Self::UnixTime => Value::Time(wall + numbers.began),
            Self::Text(text) => match entry.text(text) {
                value if value.bytes.is_empty() => Value::None,
                value => Value::Text(value.bytes, value.cut),
            },
            Self::TraceId => {
                trace_id(entry.text(Text::Traceparent).bytes).map_or(Value::None, |id| Value::Text(id, false))
            }
            Self::Port if numbers.port == 0 => Value::None,
            Self::Port => Value::Number(numbers.port.into()),
            Self::Attempts if numbers.attempts == 0 => Value::None,
            Self::Attempts => Value::Number(numbers.attempts.into()),
            Self::Protocol => numbers.protocol.name().map_or(Value::None, |name| Value::Text(name.as_bytes(), false)),
            Self::Status => Value::Number(numbers.status.into()),
            Self::Received => Value::Number(numbers.received),
            Self::Sent => Value::Number(numbers.sent),
            Self::Phase(Phase::Tls) => phase(numbers.tls),
            Self::Phase(Phase::Head) => phase(numbers.head),
            Self::Phase(Phase::Queue) => phase(numbers.queue),
            Self::Phase(Phase::Connect) => phase(numbers.connect),
            Self::Phase(Phase::FirstByte) => phase(numbers.first_byte),
            Self::Phase(Phase::Total) => Value::Time(numbers.total),
            Self::Phase(Phase::Own) => Value::Time(numbers.own),
        }
    }
}

/// The trace of a valid Traceparent (W3C Trace Context section 3.2).
fn trace_id(field: &[u8]) -> Option<&[u8]> {
    let id = field.get(3..35)?;
    let hexadecimal = |digits: &[u8]| digits.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let framed = field.get(2) == Some(&b'-') && field.get(35) == Some(&b'-');
    (framed && hexadecimal(&field[..2]) && hexadecimal(id) && id.iter().any(|c| *c != b'0')).then_some(id)
}
