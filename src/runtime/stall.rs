//! Since when a peer has made no progress. Not here: how long it may take.

use super::Tick;

/// One kind of progress that is waited for, such as the peer receiving bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    /// Tick of the last progress; None: nothing is waited for.
    since: Option<Tick>,
    /// Bytes moved by then.
    moved: u64,
}

impl Stall {
    /// Records whether something `waits` for the peer, which has `moved` so many bytes so far. Returns the tick since which it has
    /// made no progress; None: nothing waits.
    pub fn observe(&mut self, now: Tick, waits: bool, moved: u64) -> Option<Tick> {
        if !waits {
            self.since = None;
        } else if self.since.is_none() || self.moved != moved {
            self.since = Some(now);
        }
        self.moved = moved;
        self.since
    }

    /// The result of the last [`Stall::observe`].
    #[must_use]
    pub fn since(&self) -> Option<Tick> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_moves_the_beginning() {
        let mut stall = Stall::default();
        let cases = [
            (1, false, 0, None),
            (2, true, 0, Some(2)),
            (3, true, 0, Some(2)),
            (4, true, 9, Some(4)),
            (5, true, 9, Some(4)),
            (6, false, 9, None),
            (7, true, 9, Some(7)),
        ];
        for (now, waits, moved, since) in cases {
            assert_eq!(stall.observe(now, waits, moved), since, "{now}");
            assert_eq!(stall.since(), since);
        }
    }
}
