//! Bounds of what a peer can make a connection do for nothing: token buckets that are paid in events. Not here: bounds of memory,
//! which windows and the limits of field sections are, and the log.
//!
//! A reset costs the peer nothing, but work of ours (CVE-2023-44487), whoever sends it: a peer can make us reset, too (CVE-2025-8671).
//! Everything else that is legal, but of no use in large numbers, is a glitch, as HAProxy and nghttp2 call it.

use core::time::Duration;

use crate::http2::{Error, ErrorCode};

/// A bucket that holds up to `burst` tokens and gains `rate` a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Most tokens.
    pub burst: u32,
    /// Tokens that come back each second.
    pub rate: u32,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbuseLimits {
    /// Streams that end with RST_STREAM, in either direction.
    pub resets: Rate,
    /// Everything else.
    pub glitches: Rate,
    /// Parameters in one SETTINGS frame.
    pub settings: u32,
    /// CONTINUATION frames of one field section.
    pub continuations: u32,
    /// Control frames, answers to PING and SETTINGS above all, that wait to be sent because the peer does not read.
    pub queued_controls: u32,
}

impl Default for AbuseLimits {
    /// The values of nghttp2 and Envoy.
    fn default() -> Self {
        Self {
            resets: Rate { burst: 1000, rate: 33 },
            glitches: Rate { burst: 10_000, rate: 330 },
            settings: 32,
            continuations: 8,
            queued_controls: 1000,
        }
    }
}

/// Something legal that is of no use in large numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glitch {
    /// PING that is to be answered, or the answer to one, without content since the one before.
    Ping,
    /// SETTINGS, or an acknowledgement of none.
    Settings,
    /// A priority, by either scheme.
    Priority,
    /// DATA without content that does not end the message.
    EmptyData,
    /// A small increment of a window.
    SmallUpdate,
    /// A frame of an unknown kind.
    Unknown,
    /// A frame of a client for a stream that has ended, other than content and credit, which may have been on their way.
    Late,
    /// GOAWAY after the first.
    GoAway,
}

/// The kinds of abuse that end a connection, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abuse {
    /// Too many resets.
    Resets,
    /// Too many glitches, of which this was the last.
    Glitches(Glitch),
    /// Too many parameters in one frame.
    Settings,
    /// Too many CONTINUATION frames.
    Continuations,
    /// Too many answers that the peer does not read.
    QueuedControls,
    /// A field section far beyond its limits.
    FieldSection,
}

impl Abuse {
    /// The error that ends the connection.
    #[must_use]
    pub fn error(self) -> Error {
        let reason = match self {
            Self::Resets => "too many resets",
            Self::Glitches(Glitch::Ping) => "too many PING",
            Self::Glitches(Glitch::Settings) => "too many SETTINGS",
            Self::Glitches(Glitch::Priority) => "too many priorities",
            Self::Glitches(Glitch::EmptyData) => "too many DATA without content",
            Self::Glitches(Glitch::SmallUpdate) => "too many small WINDOW_UPDATE",
            Self::Glitches(Glitch::Unknown) => "too many unknown frames",
            Self::Glitches(Glitch::Late) => "too many frames for streams that have ended",
            Self::Glitches(Glitch::GoAway) => "too many GOAWAY",
            Self::Settings => "too many parameters in SETTINGS",
            Self::Continuations => "too many CONTINUATION",
            Self::QueuedControls => "answers are not read",
            Self::FieldSection => "a field section far too large",
        };
        Error::connection(ErrorCode::EnhanceYourCalm, reason)
    }
}

/// Increments of a window below this are glitches. A peer that reads steadily sends far larger ones.
pub const SMALL_UPDATE_BYTES: u32 = 256;

/// Tokens are kept in thousandths, so that milliseconds bring whole numbers.
const MILLI: u64 = 1000;

/// A token bucket. It begins full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Thousandths of tokens.
    level: u64,
    /// Milliseconds at which `level` was right.
    at: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { level: u64::from(rate.burst) * MILLI, at: 0 }
    }

    /// Takes a token, if there is one. Time that goes backwards brings nothing.
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let gained = now.saturating_sub(self.at).saturating_mul(u64::from(rate.rate));
        self.level = self.level.saturating_add(gained).min(u64::from(rate.burst) * MILLI);
        self.at = self.at.max(now);
        let Some(level) = self.level.checked_sub(MILLI) else { return false };
        self.level = level;
        true
    }
}

/// What one connection's peer has done. All functions take the time since some fixed moment before the connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbuseCounter {
    resets: Bucket,
    glitches: Bucket,
    /// CONTINUATION frames of the current field section.
    continuations: u32,
}

impl AbuseCounter {
    /// A counter for a new connection.
    #[must_use]
    pub fn new(limits: &AbuseLimits) -> Self {
        Self { resets: Bucket::new(limits.resets), glitches: Bucket::new(limits.glitches), continuations: 0 }
    }

    /// Counts RST_STREAM, received or caused by the peer.
    ///
    /// # Errors
    /// As all of these functions: the connection is to end.
    pub fn reset(&mut self, limits: &AbuseLimits, now: Duration) -> Result<(), Abuse> {
        if self.resets.take(limits.resets, now) { Ok(()) } else { Err(Abuse::Resets) }
    }

    /// Counts a glitch.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    pub fn glitch(&mut self, glitch: Glitch, limits: &AbuseLimits, now: Duration) -> Result<(), Abuse> {
        if self.glitches.take(limits.glitches, now) { Ok(()) } else { Err(Abuse::Glitches(glitch)) }
    }

    /// Counts a SETTINGS frame with so many parameters.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    pub fn settings(&mut self, count: u32, limits: &AbuseLimits, now: Duration) -> Result<(), Abuse> {
        if count > limits.settings {
            return Err(Abuse::Settings);
        }
        self.glitch(Glitch::Settings, limits, now)
    }

    /// Counts a DATA frame with so many bytes of content.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    #[inline]
    pub fn data(&mut self, content: u32, end_stream: bool, limits: &AbuseLimits, now: Duration) -> Result<(), Abuse> {
        if content > 0 || end_stream { Ok(()) } else { self.glitch(Glitch::EmptyData, limits, now) }
    }

    /// Counts WINDOW_UPDATE.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    #[inline]
    pub fn window_update(&mut self, increment: u32, limits: &AbuseLimits, now: Duration) -> Result<(), Abuse> {
        if increment >= SMALL_UPDATE_BYTES { Ok(()) } else { self.glitch(Glitch::SmallUpdate, limits, now) }
    }

    /// Begins to count the CONTINUATION frames of a field section.
    pub fn headers(&mut self) {
        self.continuations = 0;
    }

    /// Counts a CONTINUATION frame.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    pub fn continuation(&mut self, limits: &AbuseLimits) -> Result<(), Abuse> {
        self.continuations = self.continuations.saturating_add(1);
        if self.continuations <= limits.continuations { Ok(()) } else { Err(Abuse::Continuations) }
    }

    /// Checks how many control frames wait to be sent.
    #[expect(clippy::missing_errors_doc, reason = "said at `reset`")]
    pub fn queued_controls(&self, frames: u32, limits: &AbuseLimits) -> Result<(), Abuse> {
        if frames <= limits.queued_controls { Ok(()) } else { Err(Abuse::QueuedControls) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AbuseLimits = AbuseLimits {
        resets: Rate { burst: 3, rate: 2 },
        glitches: Rate { burst: 5, rate: 1 },
        settings: 4,
        continuations: 2,
        queued_controls: 10,
    };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut counter = AbuseCounter::new(&LIMITS);
        let start = Duration::from_secs(1_000_000);
        for _ in 0..3 {
            assert_eq!(counter.reset(&LIMITS, start), Ok(()));
        }
        assert_eq!(counter.reset(&LIMITS, start), Err(Abuse::Resets));
        let mut passed = 0;
        for millis in 0..10_000 {
            passed += u32::from(counter.reset(&LIMITS, start + Duration::from_millis(millis)).is_ok());
        }
        assert_eq!(passed, 19, "two a second for just below ten seconds");
        assert_eq!(
            counter.reset(&LIMITS, Duration::ZERO),
            Err(Abuse::Resets),
            "time that goes backwards brings nothing"
        );
        let year = Duration::from_secs(365 * 24 * 3600);
        let later = start + year;
        assert_eq!(
            (0..9).filter(|_| counter.reset(&LIMITS, later).is_ok()).count(),
            3,
            "no more than a burst is saved up"
        );
        assert_eq!(counter.reset(&LIMITS, Duration::MAX), Ok(()));
    }

    #[test]
    fn resets_and_glitches_are_paid_apart() {
        let mut counter = AbuseCounter::new(&LIMITS);
        let now = Duration::ZERO;
        assert_eq!(counter.settings(5, &LIMITS, now), Err(Abuse::Settings));
        assert_eq!(counter.settings(4, &LIMITS, now), Ok(()));
        assert_eq!(counter.data(0, true, &LIMITS, now), Ok(()));
        assert_eq!(counter.data(1, false, &LIMITS, now), Ok(()));
        assert_eq!(counter.window_update(SMALL_UPDATE_BYTES, &LIMITS, now), Ok(()));
        assert_eq!(counter.data(0, false, &LIMITS, now), Ok(()));
        assert_eq!(counter.window_update(1, &LIMITS, now), Ok(()));
        assert_eq!(counter.glitch(Glitch::Ping, &LIMITS, now), Ok(()));
        assert_eq!(counter.glitch(Glitch::Priority, &LIMITS, now), Ok(()));
        assert_eq!(counter.glitch(Glitch::Unknown, &LIMITS, now), Err(Abuse::Glitches(Glitch::Unknown)));
        assert_eq!(counter.reset(&LIMITS, now), Ok(()));
        assert_eq!(counter.queued_controls(10, &LIMITS), Ok(()));
        assert_eq!(counter.queued_controls(11, &LIMITS), Err(Abuse::QueuedControls));
        assert_eq!(Abuse::Resets.error().code, ErrorCode::EnhanceYourCalm);
    }

    #[test]
    fn continuations_are_counted_for_each_section() {
        let mut counter = AbuseCounter::new(&LIMITS);
        for _ in 0..3 {
            counter.headers();
            assert_eq!((counter.continuation(&LIMITS), counter.continuation(&LIMITS)), (Ok(()), Ok(())));
            assert_eq!(counter.continuation(&LIMITS), Err(Abuse::Continuations));
        }
    }
}
