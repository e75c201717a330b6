//! Which features a seed has. Each seed switches many of them off ("swarm"), so that those that are left meet often; and every other one
//! has a theme besides, under which what seldom meets by chance meets in each world. Not here: drawing what has these features (`draw`).

use crate::random::Random;

/// What a world is about, besides what chance adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Much goes to those that read slowly, in pieces that fill no buffer.
    Bulk,
    /// Connections to origins are used again about when their origins end them or talk on them.
    Pooled,
    /// Connections of clients end with requests behind, in every way.
    Ends,
    /// The operator does much, and exchanges last.
    Operations,
    /// Descriptors are few, and endpoints many.
    Descriptors,
    /// Completions overflow, and ends are missed.
    Overflow,
    Tunnels,
}

/// The features of a seed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swarm {
    pub(crate) client_faults: bool,
    pub(crate) origin_faults: bool,
    pub(crate) bad_endpoints: bool,
    pub(crate) slow: bool,
    /// Buffers are few, and clients that hold them many.
    pub(crate) short: bool,
    /// Tunnels, in so many of a hundred exchanges.
    pub(crate) tunnels: usize,
    pub(crate) large: bool,
    pub(crate) huge: bool,
    pub(crate) tls: bool,
    /// What the operator does at most.
    pub(crate) operations: usize,
    pub(crate) odd_requests: bool,
    /// Waits are as long as time-outs, to the tick.
    pub(crate) exact: bool,
    pub(crate) bulk: bool,
    pub(crate) pooled: bool,
    pub(crate) ends: bool,
    pub(crate) few_descriptors: bool,
    pub(crate) overflows: bool,
}

impl Swarm {
    pub(crate) fn draw(random: &mut Random) -> Self {
        // One seed in five is without any fault: what goes wrong there is never excused.
        let quiet = random.chance(20);
        let short = !quiet && random.chance(6);
        let slow = short || (!quiet && random.chance(40));
        let mut swarm = Self {
            client_faults: !quiet && random.chance(50),
            origin_faults: !quiet && random.chance(50),
            bad_endpoints: !quiet && random.chance(40),
            slow,
            short,
            tunnels: if random.chance(25) { 30 } else { 0 },
            large: short || random.chance(30),
            huge: random.chance(3),
            tls: random.chance(12),
            operations: if !quiet && random.chance(30) { 3 } else { 0 },
            odd_requests: random.chance(50),
            exact: !quiet && random.chance(40),
            few_descriptors: slow && random.chance(20),
            overflows: random.chance(20),
            ..Self::default()
        };
        if random.chance(50) {
            swarm.follow(random, quiet);
        }
        swarm
    }

    /// Switches on what a theme consists of.
    fn follow(&mut self, random: &mut Random, quiet: bool) {
        let themes = [
            Theme::Bulk,
            Theme::Pooled,
            Theme::Pooled,
            Theme::Ends,
            Theme::Ends,
            Theme::Operations,
            Theme::Descriptors,
            Theme::Overflow,
            Theme::Tunnels,
        ];
        match random.pick(&themes) {
            Theme::Bulk => (self.bulk, self.slow, self.huge) = (true, true, false),
            Theme::Pooled => (self.pooled, self.bad_endpoints, self.large) = (true, false, false),
            Theme::Ends => (self.ends, self.odd_requests) = (true, true),
            Theme::Operations if quiet => {}
            Theme::Operations => (self.operations, self.short) = (6, false),
            Theme::Descriptors => (self.few_descriptors, self.short) = (!quiet, false),
            Theme::Overflow => self.overflows = true,
            Theme::Tunnels => self.tunnels = 80,
        }
    }
}
