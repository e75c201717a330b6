//! An exchange as those see it who watch: what is known of it at its end, and the fields of its heads. Not here: how it comes from a worker
//! (`access_log`), and who watches (`control`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::recent::{Story, text};
use super::wall_offset;
use crate::access_log::{HeadSide, MASK, TappedField, Text, is_secret, read_tapped};

/// Parameters of queries that are secrets besides those whose names say so.
const SECRET_PARAMETERS: [&str; 4] = ["code", "key", "sig", "pwd"];

/// One message to who watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapEvent {
    /// From now on so many workers hand exchanges over.
    Begun(usize),
    /// An exchange has ended.
    Exchange(Box<Tapped>),
    /// So many so far were not shown, because they came faster than they were taken.
    Dropped(u64),
}

/// An exchange that was watched. Secrets are masked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tapped {
    /// What is known of it.
    #[serde(flatten)]
    pub story: Story,
    /// Its query, as far as the access log may have it.
    pub query: String,
    /// The client's protocol; empty: it has sent no request that could be read.
    pub protocol: String,
    /// Names and values of the fields of the request, as the client has sent them.
    pub request_fields: Vec<(String, String)>,
    /// The same of the response, as the client was sent them; empty: none was sent.
    pub response_fields: Vec<(String, String)>,
}

impl Tapped {
    /// Reads what a worker has handed over. None: it is something else.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (entry, fields) = read_tapped(bytes)?;
        let mut tapped = Self {
            story: Story::of(&entry, wall_offset()),
            query: masked_query(&text(&entry, Text::Query)),
            protocol: entry.numbers.protocol.name().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for field in fields {
            let fields = match field.side {
                HeadSide::Request => &mut tapped.request_fields,
                HeadSide::Response => &mut tapped.response_fields,
            };
            fields.push(shown(&field));
        }
        Some(tapped)
    }
}

fn shown(field: &TappedField<'_>) -> (String, String) {
    let value = String::from_utf8_lossy(field.value);
    // Referer and Location, first of all.
    let value = match value.split_once('?') {
        Some((before, query)) => format!("{before}?{}", masked_query(query)),
        None => value.into_owned(),
    };
    let cut = if field.cut { "…" } else { "" };
    (String::from_utf8_lossy(field.name).into_owned(), format!("{value}{cut}"))
}

/// A query without the values of parameters that are secrets.
fn masked_query(query: &str) -> String {
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name.as_bytes()) || SECRET_PARAMETERS.contains(&name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    masked.collect::<Vec<_>>().join("&")
}

impl fmt::Display for Tapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Story { time, method, authority, path, status, route, cluster, reason, request_id, .. } = &self.story;
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let target = format!("{} {authority}{path}{query}", or_dash(method));
        let total = self.story.milliseconds.iter().find(|(name, _)| name == "total").map_or(0.0, |(_, time)| *time);
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let cut = if self.story.cut { ", cut" } else { "" };
        writeln!(f, "{time} {target} {}: {status}{reason}{cut} in {total} ms", or_dash(&self.protocol))?;
        let endpoint = self.story.attempts.last().map_or("-", |attempt| &attempt.endpoint);
        writeln!(
            f,
            "  client {}, listener {}, route {}, cluster {}, endpoint {endpoint}, request {}",
            or_dash(&self.story.client),
            self.story.listener,
            or_dash(route),
            or_dash(cluster),
            or_dash(request_id),
        )?;
        for (mark, fields) in [('>', &self.request_fields), ('<', &self.response_fields)] {
            for (name, value) in fields {
                writeln!(f, "  {mark} {name}: {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::masked_query;

    #[test]
    fn what_a_query_may_give_away_is_masked() {
        for (query, expected) in [
            ("a=1&b", "a=1&b"),
            ("access_token=x&a=1", "access_token=***&a=1"),
            ("code=1&Password=&key", "code=***&Password=***&key"),
            ("", ""),
        ] {
            assert_eq!(masked_query(query), expected);
        }
    }
}
