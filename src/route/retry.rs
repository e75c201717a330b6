//! When a route's requests are sent again. Not here: doing it (`exchange`).

use std::fmt;
use std::time::Duration;

use crate::http::Method;
use crate::limits;

/// `[route.retry]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// `attempts`: besides the first one and those that are free.
    pub attempts: u8,
    /// `on`
    pub on: RetryOn,
    /// `methods`, by [`Method::bit`].
    pub methods: u16,
    /// `per_try_timeout`; None: the cluster's `timeouts.response`.
    pub per_try_timeout: Option<Duration>,
    /// `same_endpoint`: whether an endpoint at which a request has failed may be tried again, where there is no other.
    pub same_endpoint: bool,
    /// `backoff`: before the same endpoint is tried again the first time.
    pub backoff: Duration,
    /// `budget.ratio`: share of the requests of the last second that retries may add, 0 to 1.
    pub ratio: f64,
    /// `budget.min_per_second`: retries that there may be besides, over all workers.
    pub min_per_second: u32,
    /// `buffer`: bytes of a request that are kept to be sent again.
    pub buffer: usize,
}

impl Retry {
    /// None.
    pub const NEVER: Self = Self {
        attempts: 0,
        on: RetryOn::NOTHING,
        methods: 0,
        per_try_timeout: None,
        same_endpoint: false,
        backoff: Duration::ZERO,
        ratio: 0.0,
        min_per_second: 0,
        buffer: limits::REPLAY_BYTES,
    };

    /// Whether requests with a method may be sent again although the origin may have seen them.
    #[must_use]
    #[inline]
    pub fn allows(&self, method: Method) -> bool {
        self.attempts > 0 && self.methods & method.bit() != 0
    }
}

/// After what a request is sent again: connection events, and statuses from 400 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    events: u8,
    /// One bit for each status from 400 on.
    statuses: [u64; 4],
}

impl RetryOn {
    /// After nothing.
    pub const NOTHING: Self = Self { events: 0, statuses: [0; 4] };
    /// No connection could be made.
    pub const CONNECT: Self = Self { events: 1, ..Self::NOTHING };
    /// The connection ended before a response.
    pub const RESET: Self = Self { events: 2, ..Self::NOTHING };
    /// One try took too long.
    pub const TIMEOUT: Self = Self { events: 4, ..Self::NOTHING };
    /// The origin says with gRPC's status 14 that it is unavailable, and nothing else.
    pub const GRPC_UNAVAILABLE: Self = Self { events: 8, ..Self::NOTHING };
    /// 409, 425 and 429.
    pub const RETRIABLE_4XX: Self = Self::range(409, 409).and(Self::range(425, 425)).and(Self::range(429, 429));
    /// 502, 503 and 504.
    pub const GATEWAY_ERROR: Self = Self::range(502, 504);
    /// 500 to 599.
    pub const SERVER_ERROR: Self = Self::range(500, 599);

    const fn range(first: u16, last: u16) -> Self {
        let mut on = Self::NOTHING;
        let mut status = first;
        while status <= last {
            let at = (status - 400) as usize;
            on.statuses[at / 64] |= 1 << (at % 64);
            status += 1;
        }
        on
    }

    /// After a response with this status. None: it is none from 400 to 599.
    #[must_use]
    pub fn status(status: u16) -> Option<Self> {
        (400..600).contains(&status).then(|| Self::range(status, status))
    }

    /// After both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let (a, b) = (self.statuses, other.statuses);
        let statuses = [a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]];
        Self { events: self.events | other.events, statuses }
    }

    /// Whether it has an event of `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.events & other.events != 0
    }

    /// Whether it has a status.
    #[must_use]
    #[inline]
    pub fn has_status(self, status: u16) -> bool {
        let Some(at) = usize::from(status).checked_sub(400) else { return false };
        self.statuses.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 != 0)
    }

    /// Whether it has any status, that of gRPC included.
    #[must_use]
    #[inline]
    pub fn has_statuses(self) -> bool {
        self.statuses != [0; 4] || self.has(Self::GRPC_UNAVAILABLE)
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, on, methods, per_try_timeout, same_endpoint, backoff, ratio, min_per_second, buffer } =
            self;
        write!(
            f,
            "{attempts} on {on}, methods #{methods:x}, budget {ratio} and {min_per_second} a second, buffer {buffer}"
        )?;
        if let Some(timeout) = per_try_timeout {
            write!(f, ", {timeout:?} a try")?;
        }
        if *same_endpoint { write!(f, ", same endpoint after {backoff:?}") } else { Ok(()) }
    }
}

/// Events and ranges of statuses.
impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = [
            (Self::CONNECT, "connect"),
            (Self::RESET, "reset"),
            (Self::TIMEOUT, "timeout"),
            (Self::GRPC_UNAVAILABLE, "grpc-unavailable"),
        ];
        let mut parts: Vec<String> =
            events.into_iter().filter(|(event, _)| self.has(*event)).map(|(_, name)| name.to_owned()).collect();
        let mut statuses = (400..600).filter(|status| self.has_status(*status)).peekable();
        while let Some(first) = statuses.next() {
            let mut last = first;
            while let Some(next) = statuses.next_if(|next| *next == last + 1) {
                last = next;
            }
            parts.push(if last == first { first.to_string() } else { format!("{first}-{last}") });
        }
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_set() {
        let on = RetryOn::GATEWAY_ERROR.and(RetryOn::status(599).unwrap()).and(RetryOn::RETRIABLE_4XX);
        let has: Vec<u16> = (0..1000).filter(|status| on.has_status(*status)).collect();
        assert_eq!(has, [409, 425, 429, 502, 503, 504, 599]);
        assert_eq!(on.and(RetryOn::CONNECT).to_string(), "connect, 409, 425, 429, 502-504, 599");
        assert_eq!(RetryOn::NOTHING.to_string(), "nothing");
        assert!(RetryOn::status(399).is_none() && RetryOn::status(600).is_none());
        assert!(!RetryOn::CONNECT.has_statuses() && on.has_statuses());
        assert!(RetryOn::CONNECT.and(RetryOn::TIMEOUT).has(RetryOn::TIMEOUT) && !RetryOn::CONNECT.has(RetryOn::RESET));
        assert_eq!((500..600).filter(|status| RetryOn::SERVER_ERROR.has_status(*status)).count(), 100);
    }
}
