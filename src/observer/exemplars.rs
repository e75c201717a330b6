//! Exemplars: of each route the last recorded request of each order of duration, so that somebody who looks at a histogram finds a trace.
//! Not here: how they are shown (`control`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::access_log::{Entry, Protocol, Text};

/// Routes that have exemplars, those that had recorded requests first: some 7 KiB each at most.
const ROUTES: usize = 1024;
/// Bytes of a trace's identifier in hexadecimal digits.
const TRACE_ID: usize = 32;

/// What was timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// The whole exchange.
    Total,
    /// What cairn itself has taken.
    Own,
    /// Waiting for a place.
    Queue,
    /// Connecting.
    Connect,
}

/// A request of which a trace tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    trace_id: [u8; TRACE_ID],
    /// How long it has taken.
    pub time: Duration,
    /// When it was over, since 1970.
    pub at: Duration,
}

impl Exemplar {
    /// Identifier of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        std::str::from_utf8(&self.trace_id).unwrap_or_default()
    }
}

/// The exemplars of all routes.
#[derive(Clone, Debug, Default)]
pub struct Exemplars(BTreeMap<Box<str>, [Vec<Exemplar>; 4]>);

impl Exemplars {
    /// Takes in an exchange whose spans are recorded. `wall`: the time since 1970 when the clock of workers shows zero.
    pub(super) fn take(&mut self, entry: &Entry<'_>, wall: Duration) {
        let numbers = &entry.numbers;
        let (route, trace) = (entry.text(Text::Route), entry.text(Text::Traceparent).bytes);
        let Some(trace_id) = trace.get(3..3 + TRACE_ID).and_then(|id| id.try_into().ok()) else { return };
        let Ok(route) = std::str::from_utf8(route.bytes) else { return };
        if numbers.protocol == Protocol::Unknown {
            return;
        }
        let at = wall + numbers.began + numbers.total;
        // The histogram counts of a tunnel how long its beginning took.
        let total = (numbers.status != 101 && entry.text(Text::Method).bytes != b"CONNECT").then_some(numbers.total);
        let times = [total, Some(numbers.own), numbers.queue, numbers.connect];
        if !self.0.contains_key(route) {
            if self.0.len() >= ROUTES {
                return;
            }
            self.0.insert(route.into(), Default::default());
        }
        let Some(of_route) = self.0.get_mut(route) else { return };
        for (kept, time) in of_route.iter_mut().zip(times) {
            let Some(time) = time else { continue };
            let exemplar = Exemplar { trace_id, time, at };
            let order = |time: Duration| time.as_nanos().checked_ilog2();
            match kept.iter_mut().find(|it| order(it.time) == order(time)) {
                Some(same) => *same = exemplar,
                None => kept.push(exemplar),
            }
        }
    }

    /// The last one of a route that has taken more than `above` and at most `most`.
    #[must_use]
    pub fn find(&self, route: &str, timed: Timed, above: Duration, most: Duration) -> Option<&Exemplar> {
        let kept = &self.0.get(route)?[timed as usize];
        kept.iter().filter(|it| it.time > above && it.time <= most).max_by_key(|it| it.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Draft;

    fn taken(exemplars: &mut Exemplars, route: &str, trace: char, milliseconds: u64, method: &[u8]) {
        let mut draft = Draft::default();
        draft.clear();
        draft.add(Text::Route, route.as_bytes());
        draft.add(Text::Method, method);
        draft.add(Text::Traceparent, format!("00-{}-0123456789abcdef-01", trace.to_string().repeat(32)).as_bytes());
        draft.numbers.total = Duration::from_millis(milliseconds);
        draft.numbers.own = Duration::from_micros(7);
        draft.numbers.protocol = Protocol::Http11;
        draft.numbers.began = Duration::from_secs(1);
        let bytes = draft.finish();
        exemplars.take(&Entry::read(bytes).unwrap(), Duration::from_secs(100));
    }

    #[test]
    fn each_order_of_duration_has_its_last_one() {
        let mut exemplars = Exemplars::default();
        for (route, trace, milliseconds) in [("a", 'a', 40), ("a", 'b', 41), ("a", 'c', 3), ("b", 'd', 40)] {
            taken(&mut exemplars, route, trace, milliseconds, b"GET");
        }
        taken(&mut exemplars, "t", 'e', 9000, b"CONNECT");
        let find = |route, timed, above, most| {
            let found = exemplars.find(route, timed, Duration::from_millis(above), Duration::from_millis(most));
            found.map(|it| (it.trace_id().chars().next().unwrap(), it.time, it.at))
        };
        let at = |milliseconds| Duration::from_secs(101) + Duration::from_millis(milliseconds);
        let told = |trace, milliseconds| Some((trace, Duration::from_millis(milliseconds), at(milliseconds)));
        assert_eq!(find("a", Timed::Total, 25, 50), told('b', 41));
        assert_eq!(find("a", Timed::Total, 2, 3), told('c', 3));
        assert_eq!(find("a", Timed::Total, 3, 5), None);
        assert_eq!(find("b", Timed::Total, 0, 50), told('d', 40));
        assert_eq!(find("a", Timed::Own, 0, 1), Some(('c', Duration::from_micros(7), at(3))));
        assert_eq!(find("a", Timed::Queue, 0, 1000), None);
        assert_eq!(find("t", Timed::Total, 0, 100_000), None);
        assert_eq!(find("other", Timed::Total, 0, 1000), None);
    }

    #[test]
    fn routes_are_bounded() {
        let mut exemplars = Exemplars::default();
        (0..ROUTES + 10).for_each(|number| taken(&mut exemplars, &number.to_string(), 'a', 1, b"GET"));
        assert_eq!(exemplars.0.len(), ROUTES);
    }
}
