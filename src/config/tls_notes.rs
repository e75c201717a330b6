//! Warnings about what TLS is made of: what ends soon, what is missing. Not here: what cannot be used (`tls`).

use std::time::{SystemTime, UNIX_EPOCH};

use super::Config;
use super::notes::Notes;
use crate::calendar::civil;

/// Seconds of a day.
const DAY: u64 = 24 * 3600;

impl Config {
    /// Warnings about the TLS settings of listeners.
    pub(super) fn tls_notes(&self, notes: &mut Notes) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for (position, listener) in self.snapshot.listeners.iter().enumerate() {
            let (Some(tls), place) = (&listener.tls, self.listener_place(position)) else { continue };
            let name = &listener.name;
            if tls.permissive {
                notes.note(&place, &format!("listener {name} takes plain text, too, as tls.mode says"));
            }
            let Some(clients) = &tls.clients else { continue };
            for authority in clients.unlisted() {
                notes.warn(
                    &place,
                    &format!(
                        "listener {name} has no revocation list of the authority {authority}, so no certificate of it counts: name its \
                         list in `crl`, or take it out of `client_ca`"
                    ),
                );
            }
            if let Some(end) = clients.revocation_end().filter(|end| *end <= now) {
                notes.warn(
                    &place,
                    &format!(
                        "a revocation list of listener {name} was to be replaced by {}: no certificate of its authority counts until it is",
                        date(end)
                    ),
                );
            }
        }
    }
}

/// A time in seconds since 1970 as the day on which it is.
fn date(time: u64) -> String {
    let (year, month, day) = civil(time / DAY);
    format!("{year}-{month:02}-{day:02}")
}
