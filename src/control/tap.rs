//! Those who watch exchanges live, over the admin socket. Not here: what workers do for them (`crate::access_log`), and what an exchange
//! looks like (`crate::observer`).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::ControlRequest;
use super::admin::{AdminState, ControlEnded, answer};
use super::events::Events;
use crate::access_log::{TAPS, TapFilter, TapOrder, TapReader, tap};
use crate::config;
use crate::observer::{TapEvent, Tapped};
use crate::worker::WorkerHandle;

/// How often the rings of workers are looked at: often enough that they hold what comes meanwhile at a few thousand a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// Exchanges that are read of a ring at a time.
const RING_EXCHANGES: usize = 256;

/// The places of those who watch: true where somebody does.
pub(super) type TapPlaces = Arc<[AtomicBool; TAPS]>;

/// Somebody watches, until this is dropped.
pub struct Watching {
    place: usize,
    places: TapPlaces,
    workers: Vec<WorkerHandle>,
    readers: Vec<TapReader>,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Watching {
    /// Has `workers` hand over what `filter` lets through. None: too many watch already.
    pub(super) fn begin(places: &TapPlaces, workers: &[WorkerHandle], filter: &TapFilter) -> Option<Self> {
        let place = places.iter().position(|taken| !taken.swap(true, Ordering::AcqRel))?;
        let begin = |worker: &WorkerHandle| {
            let (order, reader) = tap(filter.clone());
            worker.watch(place, TapOrder::Begin(order));
            reader
        };
        let readers = workers.iter().map(begin).collect();
        Some(Self { place, places: Arc::clone(places), workers: workers.to_vec(), readers })
    }

    /// Sends what comes until `limit` exchanges were sent, nobody takes them any more, or the process ends. Blocks.
    fn send(mut self, limit: Option<u64>, ending: &watch::Receiver<bool>, lines: &mpsc::Sender<Bytes>) {
        let (mut bytes, mut text) = (Vec::new(), Vec::new());
        let (mut begun, mut dropped, mut left) = (false, 0, limit.unwrap_or(u64::MAX));
        while left > 0 && !*ending.borrow() && !lines.is_closed() {
            if !begun && self.readers.iter().all(TapReader::has_begun) {
                begun = true;
                write(&TapEvent::Begun(self.readers.len()), &mut text);
            }
            for reader in &mut self.readers {
                for _ in 0..RING_EXCHANGES {
                    if left == 0 || !reader.pop(&mut bytes) {
                        break;
                    }
                    if let Some(tapped) = Tapped::read(&bytes) {
                        left -= 1;
                        write(&TapEvent::Exchange(Box::new(tapped)), &mut text);
                    }
                }
            }
            let missed = self.readers.iter().map(TapReader::dropped).sum();
            if missed > dropped {
                dropped = missed;
                write(&TapEvent::Dropped(dropped), &mut text);
            }
            if text.is_empty() {
                thread::park_timeout(INTERVAL);
            } else if lines.blocking_send(Bytes::from(std::mem::take(&mut text))).is_err() {
                return;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.watch(self.place, TapOrder::End));
        // Who comes next at this place may begin before a worker has ended this one: its order replaces what the worker has.
        self.places[self.place].store(false, Ordering::Release);
    }
}

fn write(event: &TapEvent, text: &mut Vec<u8>) {
    // Writing to memory does not fail, and neither do texts and numbers.
    if serde_json::to_writer(&mut *text, event).is_ok() {
        text.push(b'\n');
    }
}

/// Query parameters of `/tap`.
#[derive(Debug, Deserialize)]
struct TapQuery {
    /// Name of a route.
    route: Option<String>,
    /// `404` or `5xx`.
    status: Option<String>,
    /// Least time, milliseconds.
    slower_ms: Option<u64>,
    /// After how many exchanges it ends.
    limit: Option<u64>,
}

impl TapQuery {
    /// None: its status is none.
    fn filter(&self) -> Option<TapFilter> {
        let statuses: Option<RangeInclusive<u16>> = match &self.status {
            Some(text) => Some(config::statuses(text)?),
            None => None,
        };
        let slower = self.slower_ms.map(Duration::from_millis);
        Some(TapFilter { route: self.route.as_deref().map(Box::from), statuses, slower })
    }
}

#[derive(Clone)]
struct TapState {
    admin: AdminState,
    /// True: no further exchange is sent.
    ending: watch::Receiver<bool>,
}

/// `/tap`.
pub(super) fn path(admin: AdminState, ending: watch::Receiver<bool>) -> Router {
    Router::new().route("/tap", routing::get(watch_exchanges)).with_state(TapState { admin, ending })
}

async fn watch_exchanges(
    State(state): State<TapState>,
    Query(query): Query<TapQuery>,
) -> Result<Response, ControlEnded> {
    let Some(filter) = query.filter() else {
        return Ok((StatusCode::BAD_REQUEST, "status is \"404\", or \"2xx\" to \"5xx\"\n").into_response());
    };
    let Some(watching) = answer(&state.admin, |reply| ControlRequest::Tap(filter, reply)).await? else {
        let text = format!("{TAPS} watch already; end one of them\n");
        return Ok((StatusCode::SERVICE_UNAVAILABLE, text).into_response());
    };
    let (sender, lines) = mpsc::channel(1);
    let ending = state.ending;
    tokio::task::spawn_blocking(move || watching.send(query.limit, &ending, &sender));
    let fields = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((fields, Body::new(Events(lines))).into_response())
}
