//! How often something has happened, by its reason code. Not here: the codes, which those that fail have.

use std::array;
use std::sync::OnceLock;

use super::Counter;

/// Codes that are told apart; there are fewer.
const CODES: usize = 128;

/// Counts by reason code, of one worker. A code gets its place when it is counted for the first time.
#[derive(Debug)]
pub struct Reasons {
    /// The places of codes, used from the first one on.
    codes: [OnceLock<&'static str>; CODES],
    /// By place.
    counts: [Counter; CODES],
}

impl Default for Reasons {
    fn default() -> Self {
        Self { codes: array::from_fn(|_| OnceLock::new()), counts: array::from_fn(|_| Counter::default()) }
    }
}

impl Reasons {
    /// Counts; for the writing thread only.
    pub fn count(&self, code: &'static str) {
        for (known, count) in self.codes.iter().zip(&self.counts) {
            let known = known.get_or_init(|| code);
            // The same constant has the same address, as a rule.
            if std::ptr::eq(*known, code) || *known == code {
                return count.add(1);
            }
        }
    }

    /// All codes so far, and their counts.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.codes.iter().zip(&self.counts).map_while(|(code, count)| Some((*code.get()?, count.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_apart() {
        let reasons = Reasons::default();
        for code in ["no_route", "shed", "no_route", "no", "no_route"] {
            reasons.count(code);
        }
        assert_eq!(reasons.counts().collect::<Vec<_>>(), [("no_route", 3), ("shed", 1), ("no", 1)]);
    }
}
