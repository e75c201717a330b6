//! When a second attempt is made beside one that is slow. Not here: making it (`exchange`).

use std::fmt;
use std::time::Duration;

/// `hedge.after`: how long an endpoint may take to begin its response before another one is asked, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// This long.
    After(Duration),
    /// As long as all but five in a hundred of the route's requests have taken lately.
    P95,
}

impl fmt::Display for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => write!(f, "after {time:?}"),
            Self::P95 => f.write_str("after p95"),
        }
    }
}
