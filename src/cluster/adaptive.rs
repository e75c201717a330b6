//! A limit of requests under way that follows how long answers take: where they take longer than they have to, more are under way than
//! the endpoints can work on. It is learned from what is measured anyway; no time is set apart for probing.
//! Not here: what is done with the limit (`places`).

/// The limit before anything was measured: few, so that it is seen what an answer takes that waits for no other.
const START: f64 = 8.0;
/// The smallest and the largest limit.
const RANGE: (f64, f64) = (4.0, 100_000.0);
/// How much longer than they have to answers may take: so much varies without overload, too.
const TOLERANCE: f64 = 1.5;
/// Answers that make a measurement.
const ANSWERS_MIN: u64 = 20;
/// Part by which the time that an answer has to take is brought nearer to a longer one by a measurement which shows that endpoints have
/// become slower by themselves.
const DRIFT: f64 = 0.5;

/// The limit of one cluster.
#[derive(Debug)]
pub struct AdaptiveLimit {
    limit: f64,
    /// What an answer has to take, microseconds; None: nothing was measured yet.
    least: Option<f64>,
    /// Whether no limit was found that is too high.
    begins: bool,
    /// The limit, and the time of an answer under it, one measurement ago.
    last: (f64, f64),
    /// Answers and the sum of their times, microseconds, up to the last measurement.
    before: (u64, u64),
    /// Most requests under way since then.
    used: u32,
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self { limit: START, least: None, begins: true, last: (START, 0.0), before: (0, 0), used: 0 }
    }
}

impl AdaptiveLimit {
    /// Takes in how many answers there were so far, and the sum of the times to their first bytes, microseconds; and how many requests
    /// are under way. Returns the limit.
    pub fn observe(&mut self, answers: u64, sum: u64, under_way: u32) -> u32 {
        self.used = self.used.max(under_way);
        let count = answers.saturating_sub(self.before.0);
        if count >= ANSWERS_MIN {
            let time = sum.saturating_sub(self.before.1) as f64 / count as f64;
            self.before = (answers, sum);
            self.measure(time.max(1.0));
            self.used = under_way;
        }
        self.limit as u32
    }

    fn measure(&mut self, time: f64) {
        let busy = f64::from(self.used) >= self.limit / 2.0;
        let least = match self.least {
            Some(least) if time > least && (!busy || self.is_in_vain(time)) => least + (time - least) * DRIFT,
            Some(least) => least.min(time),
            None => time,
        };
        self.least = Some(least);
        self.last = (self.limit, time);
        let gradient = (TOLERANCE * least / time).clamp(0.5, 1.0);
        self.begins &= gradient == 1.0;
        // A few more than that are let in, so that room which has come is found.
        let headroom = if self.begins { self.limit / 2.0 } else { (self.limit.sqrt() / 2.0).max(1.0) };
        let next = self.limit * gradient + headroom;
        // A limit that is not used says nothing when it grows.
        if busy || next < self.limit {
            self.limit = next.clamp(RANGE.0, RANGE.1);
        }
    }

    /// Whether the limit was lowered, and answers take about as long as before: then they wait for no other, but take longer by
    /// themselves. Where they wait for each other, half as many take half as long.
    fn is_in_vain(&self, time: f64) -> bool {
        let (limit, before) = self.last;
        let lowered = self.limit / limit;
        lowered < 0.9 && time / before > (1.0 + lowered) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints that work on so many requests at a time, each for so long (microseconds), for a number of steps of a fifth of a
    /// second: as many requests are under way as the limit allows, and are wanted. Returns the limit, the time of an answer, and the
    /// share of what could be done that was done, in the last step.
    fn run(
        limit: &mut AdaptiveLimit,
        sums: &mut (u64, u64),
        (width, time): (f64, f64),
        wanted: f64,
        steps: u32,
    ) -> (f64, f64) {
        let mut last = (0.0, 0.0);
        for _ in 0..steps {
            let under_way = limit.limit.min(wanted);
            let takes = time * (under_way / width).max(1.0);
            let answers = (200_000.0 / takes * under_way) as u64;
            *sums = (sums.0 + answers, sums.1 + (answers as f64 * takes) as u64);
            limit.observe(sums.0, sums.1, under_way as u32);
            last = (takes, (under_way / width).min(1.0));
        }
        last
    }

    #[test]
    fn it_finds_what_the_endpoints_can_work_on() {
        for width in [4.0, 16.0, 100.0, 1000.0] {
            for time in [500.0, 10_000.0, 200_000.0] {
                let (mut limit, mut sums) = (AdaptiveLimit::default(), (0, 0));
                // It learns what an answer has to take while there is little to do.
                run(&mut limit, &mut sums, (width, time), 2.0, 50);
                let (takes, share) = run(&mut limit, &mut sums, (width, time), 1e6, 300);
                assert!(share == 1.0, "{width} {time}: {share}");
                assert!(takes <= 2.2 * time, "{width} {time}: {takes}");
            }
        }
    }

    #[test]
    fn it_follows_endpoints_that_become_slower_and_faster() {
        let (mut limit, mut sums) = (AdaptiveLimit::default(), (0, 0));
        run(&mut limit, &mut sums, (50.0, 10_000.0), 1e6, 100);
        for width in [10.0, 200.0, 20.0] {
            let (takes, share) = run(&mut limit, &mut sums, (width, 10_000.0), 1e6, 300);
            assert!(share > 0.95 && takes < 25_000.0, "{width}: {share} {takes}");
        }
        // What takes three times as long by itself is found out while it is quiet, and under load.
        for wanted in [2.0, 1e6] {
            let (mut limit, mut sums) = (AdaptiveLimit::default(), (0, 0));
            run(&mut limit, &mut sums, (50.0, 10_000.0), 1e6, 100);
            run(&mut limit, &mut sums, (50.0, 30_000.0), wanted, 200);
            let (takes, share) = run(&mut limit, &mut sums, (50.0, 30_000.0), 1e6, 300);
            assert!(share > 0.95 && takes < 66_000.0, "{wanted}: {share} {takes}");
        }
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        let (mut limit, mut sums) = (AdaptiveLimit::default(), (0, 0));
        run(&mut limit, &mut sums, (50.0, 10_000.0), 3.0, 1000);
        assert_eq!(limit.limit as u32, START as u32);
        assert_eq!(limit.observe(sums.0 + 1, sums.1 + 1_000_000, 3), START as u32, "one answer is no measurement");
    }
}
