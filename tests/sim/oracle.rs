//! What is known of each exchange, from both of its ends, and what may never be seen of one.

use std::time::Duration;

use crate::net::{LinkId, Net};
use crate::scenario::{Body, OriginFault, Scenario, Target};

/// What has become of an exchange, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing of it was sent.
    Unsent,
    Pending,
    /// Answered, by its origin or by the worker itself.
    Complete {
        status: u16,
        own: bool,
    },
    /// The connection ended in the middle of the response.
    Cut,
    /// It ended before the response.
    Unanswered,
}

#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) outcome: Outcome,
    /// When its client began to send it.
    pub(crate) begun: Duration,
    /// When it was over for its client.
    pub(crate) ended: Option<Duration>,
    /// Its client has a tunnel.
    pub(crate) opened: bool,
    sightings: Vec<Sighting>,
    /// Why it need not succeed.
    excuse: Option<&'static str>,
}

/// An origin has read the head of a request.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    link: LinkId,
    at: Duration,
    /// Bytes that the worker had received on the connection.
    delivered: u64,
}

/// All exchanges, by id.
pub(crate) struct Oracle {
    pub(crate) exchanges: Vec<Known>,
    /// Final response heads that clients have read.
    pub(crate) heads: u64,
    /// When the operator began to take away what exchanges need.
    pub(crate) disturbed: Option<Duration>,
}

/// Statuses of the worker's own answers.
const OWN: [u16; 15] = [200, 400, 404, 405, 408, 413, 414, 417, 421, 431, 499, 501, 502, 503, 504];

impl Oracle {
    pub(crate) fn new(count: usize) -> Self {
        let known = Known {
            outcome: Outcome::Unsent,
            begun: Duration::ZERO,
            ended: None,
            opened: false,
            sightings: Vec::new(),
            excuse: None,
        };
        Self { exchanges: vec![known; count], heads: 0, disturbed: None }
    }

    pub(crate) fn begin(&mut self, exchange: u32, now: Duration) {
        let known = &mut self.exchanges[exchange as usize];
        known.outcome = Outcome::Pending;
        known.begun = now;
    }

    pub(crate) fn end(&mut self, net: &mut Net, exchange: u32, outcome: Outcome) {
        let known = &mut self.exchanges[exchange as usize];
        if known.outcome != Outcome::Pending {
            return net.violate(format!("exchange {exchange} ends twice: {:?}, {outcome:?}", known.outcome));
        }
        known.outcome = outcome;
        known.ended = Some(net.now);
        if let Outcome::Complete { status, own: true } = outcome
            && !OWN.contains(&status)
        {
            net.violate(format!("exchange {exchange} is answered {status} by the worker itself"));
        }
    }

    /// The worker says that it has not processed a request.
    pub(crate) fn take_back(&mut self, net: &mut Net, exchange: u32) {
        let known = &mut self.exchanges[exchange as usize];
        if !known.sightings.is_empty() {
            net.violate(format!("exchange {exchange} is refused, though an origin has read it"));
        }
        known.outcome = Outcome::Unsent;
    }

    pub(crate) fn excuse(&mut self, exchange: u32, why: &'static str) {
        self.exchanges[exchange as usize].excuse.get_or_insert(why);
    }

    /// An origin has read a request: it must not be carried out twice, nor after its client may have seen part of an answer.
    pub(crate) fn sight(&mut self, net: &mut Net, scenario: &Scenario, exchange: u32, link: LinkId) {
        let Some(known) = self.exchanges.get_mut(exchange as usize) else {
            return net.violate(format!("an origin reads exchange {exchange}, which nobody began"));
        };
        if known.outcome == Outcome::Unsent {
            return net.violate(format!("an origin reads exchange {exchange}, which nobody sent"));
        }
        // Another endpoint is asked before the first one has answered, but may read it after that.
        let hedged = scenario.is_hedged(exchange);
        let others = known.sightings.iter().filter(|before| !net.links[before.link].closing).count();
        if hedged && others > 1 {
            return net.violate(format!("exchange {exchange} is at three origins at once"));
        }
        for before in known.sightings.iter().filter(|_| !hedged) {
            let other = &net.links[before.link];
            if other.delivered > before.delivered {
                return net.violate(format!("exchange {exchange} is sent again after a byte of response"));
            }
            if !other.closing {
                return net.violate(format!("exchange {exchange} is at two origins at once"));
            }
        }
        if !known.sightings.is_empty() && !scenario.is_idempotent(exchange) {
            return net.violate(format!("exchange {exchange}, a POST, is carried out twice"));
        }
        if known.sightings.len() > 3 {
            return net.violate(format!("exchange {exchange} is sent again and again"));
        }
        let delivered = net.links[link].delivered;
        known.sightings.push(Sighting { link, at: net.now, delivered });
    }

    /// Whether every exchange that was begun has been answered, by its end.
    pub(crate) fn is_complete(&self) -> bool {
        let complete = |known: &Known| matches!(known.outcome, Outcome::Unsent | Outcome::Complete { .. });
        self.exchanges.iter().all(complete)
    }

    /// When an origin had read it first.
    pub(crate) fn sighted(&self, exchange: u32) -> Option<Duration> {
        self.exchanges[exchange as usize].sightings.first().map(|sighting| sighting.at)
    }

    /// What has to be true of every exchange once all is over.
    pub(crate) fn judge(&self, net: &mut Net, scenario: &Scenario) {
        for (number, client) in scenario.clients.iter().enumerate() {
            for (position, &exchange) in client.exchanges.iter().enumerate() {
                if scenario.is_clean(number, exchange) {
                    // Those before it on the connection, up to the depth of the pipeline, are answered first.
                    let first = (position + 1).saturating_sub(client.depth.max(1));
                    self.judge_clean(net, scenario, exchange, &client.exchanges[first..=position]);
                }
                let refused = self.exchanges[exchange as usize].outcome == Outcome::Complete { status: 502, own: true };
                let sent = net.sent_over.contains_key(&exchange);
                if refused && !sent && self.disturbed.is_none() && scenario.is_reachable(exchange) {
                    net.violate(format!("exchange {exchange} has failed, though nothing of it was sent"));
                }
            }
        }
    }

    /// An exchange that nothing stood in the way of has succeeded.
    fn judge_clean(&self, net: &mut Net, scenario: &Scenario, exchange: u32, pipeline: &[u32]) {
        let known = &self.exchanges[exchange as usize];
        let plan = &scenario.exchanges[exchange as usize];
        // What an origin has read is brought to its end, whatever the operator does.
        let begun = self.sighted(exchange);
        let disturbed = self.disturbed.is_some_and(|at| begun.is_none_or(|begun| begun >= at));
        if disturbed || known.excuse.is_some() || self.is_misled(net, scenario, exchange) {
            return;
        }
        let own = !matches!(plan.target, Target::Cluster(_));
        match known.outcome {
            Outcome::Complete { own: by_worker, .. } if by_worker == own => {
                let plans = pipeline.iter().map(|exchange| &scenario.exchanges[*exchange as usize]);
                let waits: Duration = plans.map(|plan| plan.answer.delay + scenario.connecting_time(plan)).sum();
                let patience = waits + Duration::from_secs(4);
                let took = known.ended.unwrap_or_default().saturating_sub(known.begun);
                if !scenario.kernel.is_tedious() && took > patience {
                    net.violate(format!("exchange {exchange} took {took:?}, and nothing was in its way"));
                }
            }
            outcome => net.violate(format!("exchange {exchange} was {outcome:?}, and nothing was in its way")),
        }
    }

    /// Whether an exchange was sent over a connection on which the answer before was whole, and whose origin then did what nobody could
    /// foresee: it went on with garbage, or closed. A request that may be sent again survives the latter.
    fn is_misled(&self, net: &Net, scenario: &Scenario, exchange: u32) -> bool {
        let ended = self.exchanges[exchange as usize].ended.unwrap_or(Duration::MAX);
        let repeatable = scenario.is_idempotent(exchange) && scenario.exchanges[exchange as usize].body == Body::None;
        let links = net.sent_over.get(&exchange).into_iter().flatten();
        let mut faults = links.filter_map(|link| net.links[*link].fault).filter(|(at, _)| *at <= ended);
        faults.any(|(_, fault)| fault == OriginFault::Garbage || !repeatable)
    }
}
