//! Time-outs: a hashed timer wheel with lazy re-arming. Not here: reading a clock.
//!
//! Moving a deadline later, which every exchange does several times, is one store: the timer stays where it is linked and is
//! linked anew when that slot comes round. Only a deadline that moves earlier touches the lists.

/// Time since the process started, in units of `limits::TICK_MS`.
pub type Tick = u64;

const SLOTS: usize = 1024;
/// Low bits of a timer's number that tell its kind: timers of different kinds have tables of their own.
const KIND_BITS: u32 = 2;
/// No timer.
const NONE: u32 = u32::MAX;
/// A tick that never comes.
const NEVER: Tick = Tick::MAX;
/// The deadline of a timer that has fired and was not taken with [`Wheel::take_due`].
const DUE: Tick = Tick::MAX - 1;

/// Timers numbered by their owner, one deadline each.
#[derive(Debug)]
pub struct Wheel {
    /// By the low bits of a timer's number, so that kinds of timers whose slots are few take little.
    nodes: [Vec<Node>; 1 << KIND_BITS],
    slots: Box<[u32; SLOTS]>,
    /// One bit a slot: whether its list has a node.
    occupied: [u64; SLOTS / 64],
    /// All slots up to this tick have been visited.
    visited: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// When it fires, or [`NEVER`] or [`DUE`].
    deadline: Tick,
    /// When its slot is visited, at most `SLOTS - 1` ticks ahead; [`NEVER`]: in no list.
    visit: Tick,
    next: u32,
    previous: u32,
}

const UNLINKED: Node = Node { deadline: NEVER, visit: NEVER, next: NONE, previous: NONE };

/// Where the node of a timer stands.
fn position(timer: u32) -> (usize, usize) {
    ((timer & ((1 << KIND_BITS) - 1)) as usize, (timer >> KIND_BITS) as usize)
}

impl Default for Wheel {
    fn default() -> Self {
        Self { nodes: Default::default(), slots: Box::new([NONE; SLOTS]), occupied: [0; SLOTS / 64], visited: 0 }
    }
}

impl Wheel {
    /// Makes `timer` fire at the first visit at or after `deadline`. One that has fired and was not taken stays so if `deadline` has
    /// passed: else who sets it again in each turn would never see it fire.
    pub fn set(&mut self, timer: u32, deadline: Tick) {
        let (kind, slot) = position(timer);
        let nodes = &mut self.nodes[kind];
        if nodes.len() <= slot {
            nodes.resize(slot + 1, UNLINKED);
        }
        let node = &mut nodes[slot];
        if node.deadline == DUE && deadline <= self.visited {
            return;
        }
        node.deadline = deadline.min(DUE - 1);
        if node.visit == NEVER || deadline < node.visit {
            self.unlink(timer);
            self.link(timer);
        }
    }

    /// Disarms `timer`, also if it has fired and was not taken.
    pub fn clear(&mut self, timer: u32) {
        if let Some(node) = self.node(timer) {
            node.deadline = NEVER;
        }
    }

    /// Whether `timer` has fired and was neither cleared nor set since. True once.
    pub fn take_due(&mut self, timer: u32) -> bool {
        let Some(node) = self.node(timer).filter(|node| node.deadline == DUE) else { return false };
        node.deadline = NEVER;
        true
    }

    /// The first tick at which a slot has to be visited.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        let start = (self.visited + 1) as usize % SLOTS;
        let mut word = self.occupied[start / 64] & (u64::MAX << (start % 64));
        for step in 0..=self.occupied.len() {
            let index = (start / 64 + step) % self.occupied.len();
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(self.visited + 1 + ahead as Tick);
            }
            word = self.occupied[(index + 1) % self.occupied.len()];
        }
        None
    }

    /// Timers that are to fire. Walks all of them: for tests.
    #[must_use]
    pub fn armed(&self) -> usize {
        self.nodes.iter().flatten().filter(|node| node.deadline != NEVER).count()
    }

    /// Visits every slot up to `now` and puts the timers that fire into `due`. Each is to be asked for with [`Wheel::take_due`]
    /// when its turn comes: what happens before may have cleared it.
    pub fn expire(&mut self, now: Tick, due: &mut Vec<u32>) {
        let first = self.visited.max(now.saturating_sub(SLOTS as Tick - 1));
        for tick in first..=now {
            self.visited = tick;
            let slot = tick as usize % SLOTS;
            if self.occupied[slot / 64] & 1 << (slot % 64) == 0 {
                continue;
            }
            let mut timer = self.slots[slot];
            while timer != NONE {
                let (kind, at) = position(timer);
                let Node { deadline, next, .. } = self.nodes[kind][at];
                self.unlink(timer);
                if deadline <= now {
                    self.nodes[kind][at].deadline = DUE;
                    due.push(timer);
                } else if deadline < DUE {
                    self.link(timer);
                }
                timer = next;
            }
        }
    }

    /// The node of a timer that was set before; None for [`NONE`].
    fn node(&mut self, timer: u32) -> Option<&mut Node> {
        let (kind, at) = position(timer);
        self.nodes[kind].get_mut(at)
    }

    fn link(&mut self, timer: u32) {
        let (kind, at) = position(timer);
        let node = &mut self.nodes[kind][at];
        node.visit = node.deadline.clamp(self.visited + 1, self.visited + SLOTS as Tick - 1);
        let slot = node.visit as usize % SLOTS;
        (node.previous, node.next) = (NONE, self.slots[slot]);
        if let Some(next) = self.node(self.slots[slot]) {
            next.previous = timer;
        }
        self.slots[slot] = timer;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn unlink(&mut self, timer: u32) {
        let (kind, at) = position(timer);
        let Node { visit, next, previous, .. } = self.nodes[kind][at];
        if visit == NEVER {
            return;
        }
        self.nodes[kind][at].visit = NEVER;
        if let Some(next) = self.node(next) {
            next.previous = previous;
        }
        if let Some(previous) = self.node(previous) {
            previous.next = next;
            return;
        }
        let slot = visit as usize % SLOTS;
        self.slots[slot] = next;
        if next == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now: Tick) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        assert!(due.iter().all(|&timer| wheel.take_due(timer) && !wheel.take_due(timer)));
        due
    }

    /// Whoever sets it again in each turn, to a time that has passed, sees it fire all the same.
    #[test]
    fn what_is_due_stays_due() {
        let (mut wheel, mut due) = (Wheel::default(), Vec::new());
        wheel.set(8, 5);
        wheel.expire(6, &mut due);
        wheel.set(8, 5);
        assert!(wheel.take_due(8));
        wheel.set(8, 7);
        wheel.expire(7, &mut due);
        wheel.set(8, 9);
        assert!(!wheel.take_due(8), "it was moved");
        assert_eq!(fired(&mut wheel, 9), [8]);
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let (mut wheel, mut naive) = (Wheel::default(), vec![NEVER; 64]);
        let mut seed = 7u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        // A process that runs for more than 795 days.
        let mut now = Tick::from(u32::MAX) - 5_000;
        wheel.expire(now, &mut Vec::new());
        for _ in 0..20_000 {
            let timer = random(64);
            match random(8) {
                0 => {
                    wheel.clear(timer);
                    naive[timer as usize] = NEVER;
                }
                1 => {
                    let reach = if random(9) == 0 { 3000 } else { 20 };
                    now += Tick::from(random(reach));
                    let due: Vec<u32> = (0..64).filter(|&t| naive[t as usize] <= now).collect();
                    due.iter().for_each(|&t| naive[t as usize] = NEVER);
                    assert_eq!(fired(&mut wheel, now), due);
                }
                _ => {
                    let deadline = now + 1 + Tick::from(random(2500));
                    wheel.set(timer, deadline);
                    naive[timer as usize] = deadline;
                }
            }
            let first = naive.iter().copied().min().unwrap_or(NEVER);
            assert!(first == NEVER || wheel.next().is_some_and(|tick| tick <= first));
        }
    }

    #[test]
    fn what_has_fired_can_still_be_cleared_or_set() {
        let (mut wheel, mut due) = (Wheel::default(), Vec::new());
        (0..3).for_each(|timer| wheel.set(timer, 10));
        wheel.expire(10, &mut due);
        wheel.clear(0);
        wheel.set(1, 20);
        assert_eq!([0, 1, 2].map(|timer| wheel.take_due(timer)), [false, false, true]);
        assert_eq!(fired(&mut wheel, 20), [1]);
    }

    #[test]
    fn an_empty_wheel_never_wakes() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next(), None);
        wheel.set(3, 10);
        assert_eq!(wheel.next(), Some(10));
        wheel.clear(3);
        assert_eq!(fired(&mut wheel, 50), Vec::<u32>::new());
        assert_eq!(wheel.next(), None);
    }
}
