//! Server-sent events of the admin interface. Not here: what they hold (`top`).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ControlRequest;
use super::admin::{AdminState, ControlEnded, answer};
use super::top::Look;

/// Default and bounds of the time between two looks, milliseconds.
const INTERVAL: u64 = 1000;
const INTERVAL_MIN: u64 = 100;
const INTERVAL_MAX: u64 = 60_000;
/// The default where only one answer is asked for.
const INTERVAL_ONCE: u64 = 500;

/// Who may look at a time: each keeps two looks, of 17 KiB for each route with requests.
const LOOKING: usize = 8;

/// Query parameters of `/top` and `/top/events`.
#[derive(Debug, Deserialize)]
struct TopQuery {
    /// Time between two looks, milliseconds.
    interval_ms: Option<u64>,
}

impl TopQuery {
    fn interval(&self, default: u64) -> Duration {
        Duration::from_millis(self.interval_ms.unwrap_or(default).clamp(INTERVAL_MIN, INTERVAL_MAX))
    }
}

/// What serves both paths.
#[derive(Clone)]
struct TopState {
    admin: AdminState,
    /// True: no further event is sent.
    ending: watch::Receiver<bool>,
    /// Places of those who look.
    places: Arc<Semaphore>,
}

/// Too many look already: 503.
struct Crowded;

impl IntoResponse for Crowded {
    fn into_response(self) -> Response {
        let text = format!("{LOOKING} look already; close one of their pages\n");
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

/// `/top` and `/top/events`.
pub(super) fn paths(admin: AdminState, ending: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/top", routing::get(once))
        .route("/top/events", routing::get(again_and_again))
        .with_state(TopState { admin, ending, places: Arc::new(Semaphore::new(LOOKING)) })
}

/// A look at all counters, made beside everything else.
async fn look(state: &AdminState) -> Result<Arc<Look>, ControlEnded> {
    let (status, names) = answer(state, ControlRequest::Counters).await?;
    let made = tokio::task::spawn_blocking(move || Arc::new(Look::new(*status, &names)));
    made.await.map_err(|_| ControlEnded)
}

async fn once(State(state): State<TopState>, Query(query): Query<TopQuery>) -> Result<Response, ControlEnded> {
    let Ok(_place) = state.places.try_acquire() else { return Ok(Crowded.into_response()) };
    let before = look(&state.admin).await?;
    sleep(query.interval(INTERVAL_ONCE)).await;
    Ok(Json(look(&state.admin).await?.since(&before)).into_response())
}

async fn again_and_again(State(state): State<TopState>, Query(query): Query<TopQuery>) -> Response {
    let Ok(place) = Arc::clone(&state.places).try_acquire_owned() else { return Crowded.into_response() };
    let (sender, events) = mpsc::channel(1);
    tokio::spawn(async move {
        send(state, query.interval(INTERVAL), sender).await;
        drop(place);
    });
    let fields = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (fields, Body::new(Events(events))).into_response()
}

/// Sends an event each time, until nobody listens, or the process ends.
async fn send(mut state: TopState, time: Duration, events: mpsc::Sender<Bytes>) {
    let mut tick = interval(time);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Arc<Look>> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = events.closed() => return,
            // An error means that the sender is dropped, which ends serving, too.
            _ = state.ending.wait_for(|ending| *ending) => return,
        }
        let Ok(now) = look(&state.admin).await else { return };
        let Some(before) = before.replace(Arc::clone(&now)) else { continue };
        let Ok(text) = serde_json::to_string(&now.since(&before)) else { return };
        // Where the reader is slower, its connection ends when it has taken nothing for a while.
        let sent = events.send(Bytes::from(format!("event: top\ndata: {text}\n\n")));
        tokio::select! {
            sent = sent => if sent.is_err() { return },
            _ = state.ending.wait_for(|ending| *ending) => return,
        }
    }
}

/// The body of a response that has no end of its own.
pub(super) struct Events(pub(super) mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
