//! Chance that depends on nothing but a seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A stream of random numbers (splitmix64). Every actor has one of its own, so that what is left out of a scenario changes as little as
/// possible of what is left in.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream `number` of a seed.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number within `range`.
    pub(crate) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A length between 0 and `most`, short ones as often as long ones.
    pub(crate) fn length(&mut self, most: usize) -> usize {
        let bits = usize::BITS - most.leading_zeros();
        let bound = 1usize << self.within(0..=bits as usize);
        self.below(bound.min(most) + 1)
    }

    /// A time up to `most`.
    pub(crate) fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as usize + 1) as u64)
    }
}

/// Spreads the bits of a number.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
