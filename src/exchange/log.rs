//! What the access log is told of a request while it is known: texts of its head, its route, its endpoint. Not here: its end
//! (`downstream`), and which exchanges are logged (`access_log`).

use super::attempt::Attempt;
use super::hedge::{OUTRUN, Second};
use super::request::{AddressText, target};
use super::{Decision, Engine, Failure, Peer, Record, RouteOf, RouteRequest, client};
use crate::access_log::{AttemptEntry, Draft, HeadSide, Outcome, QueryRule, Recorded, Text};
use crate::buffer::Queue;
use crate::http::{FieldName, RequestHead};
use crate::id::RouteId;
use crate::route::Action;
use crate::snapshot::Snapshot;
use crate::tls::ClientHandshake;
use crate::trace;
use crate::uring::Driver;

impl<D: Driver> Engine<D> {
    /// The entry of an exchange that begins: what is known of its request. None: nothing is logged.
    #[inline]
    pub fn begin_entry(&mut self, asked: &RouteRequest<'_>, snapshot: &Snapshot) -> Option<Box<Draft>> {
        if self.access_log.is_on() || self.trace.spans().0 != 0 {
            Some(self.begin_read_entry(asked, snapshot))
        } else {
            None
        }
    }

    #[inline(never)]
    fn begin_read_entry(&mut self, asked: &RouteRequest<'_>, snapshot: &Snapshot) -> Box<Draft> {
        let RouteRequest { request, head, peer, tls, id, .. } = *asked;
        let spec = snapshot.listener(asked.listener);
        let mut draft = if peer.trusted {
            let address = client::client_ip(peer, request, head, spec);
            let port = if address == peer.address() { peer.port } else { 0 };
            self.begin_entry_of((AddressText::new(address).bytes(), port), &spec.name, tls)
        } else {
            self.begin_entry_of((peer.text(), peer.port), &spec.name, tls)
        };
        draft.add(Text::Method, request.method_text.of(head));
        draft.add(Text::Authority, request.authority.of(head));
        draft.add(Text::Path, request.path(head));
        let query_rule = self.access_log.query();
        draft.add_query(query_rule, request.query.map_or(b"", |query| query.of(head)));
        draft.add(Text::RequestId, id.text());
        draft.add(Text::Traceparent, self.trace.value());
        (draft.numbers.span, draft.numbers.parent) = self.trace.spans();
        if draft.numbers.span != 0 {
            self.add_trace_state(request, head, &mut draft);
        }
        let agent = request.fields.get(FieldName::UserAgent);
        draft.add(Text::UserAgent, agent.map_or(b"", |field| field.value.of(head)));
        if let Some(referer) = request.fields.named(head, b"referer").next() {
            let value = referer.value.of(head);
            // Its query is one of this host, as a rule.
            let end = value.iter().position(|byte| *byte == b'?').filter(|_| query_rule != QueryRule::Full);
            draft.add(Text::Referer, &value[..end.unwrap_or(value.len())]);
        }
        for name in self.access_log.rules().map_or(&[][..], |rules| &rules.headers) {
            if let Some(field) = request.fields.named(head, name.as_bytes()).next() {
                draft.add_header(name.as_bytes(), field.value.of(head));
            }
        }
        if self.access_log.is_watched() {
            for field in &request.fields {
                draft.add_watched(HeadSide::Request, field.name.of(head), field.value.of(head));
            }
        }
        draft
    }

    /// Adds the fields of the response that was written last, if somebody watches.
    #[inline]
    pub fn watch_response(&self, entry: &mut Option<Box<Draft>>) {
        if let Some(draft) = entry
            && self.access_log.is_watched()
        {
            self.add_response(draft);
        }
    }

    #[cold]
    fn add_response(&self, draft: &mut Draft) {
        let lines = self.scratch.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        // The line of the status comes first, the empty line last.
        for line in lines.skip(1).take_while(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':');
            if let Some((name, value)) = colon.and_then(|at| line.split_at_checked(at)) {
                draft.add_watched(HeadSide::Response, name, value[1..].trim_ascii_start());
            }
        }
    }

    /// Adds what a span has besides of its trace.
    #[cold]
    fn add_trace_state(&self, request: &RequestHead, head: &[u8], draft: &mut Draft) {
        let replaced = self.trace.replaced() & FieldName::Tracestate.bit() != 0;
        let state = request.fields.get(FieldName::Tracestate).filter(|field| !replaced && !field.dropped);
        draft.add(Text::Tracestate, state.map_or(b"", |field| field.value.of(head)));
    }

    /// The entry of an exchange whose request could not be read.
    #[cold]
    pub fn begin_unread_entry(&mut self, peer: &Peer, listener: &str, tls: Option<&ClientHandshake>) -> Box<Draft> {
        self.begin_entry_of((peer.text(), peer.port), listener, tls)
    }

    fn begin_entry_of(&mut self, client: (&[u8], u16), listener: &str, tls: Option<&ClientHandshake>) -> Box<Draft> {
        let mut draft = self.access_log.draft();
        let (address, port) = client;
        draft.add(Text::Client, address);
        draft.numbers.port = port;
        draft.add(Text::Listener, listener.as_bytes());
        if let Some(tls) = tls {
            draft.add(Text::TlsVersion, tls.version().as_bytes());
            draft.add(Text::TlsSni, tls.sni.as_bytes());
            draft.add(Text::ClientIdentity, tls.identity.as_bytes());
        }
        draft
    }

    /// The entry of an exchange that has failed when it began, if it has none yet.
    #[cold]
    pub fn begin_failed_entry(
        &mut self,
        entry: &mut Option<Box<Draft>>,
        asked: &RouteRequest<'_>,
        snapshot: &Snapshot,
    ) {
        if entry.is_none() {
            *entry = Some(self.begin_read_entry(asked, snapshot));
        }
    }

    /// Whether an exchange is remembered for the question what became of it: it has failed, or it was slow.
    #[must_use]
    #[inline]
    pub fn is_remarkable(&self, record: &Record) -> bool {
        // A tunnel may last.
        let slow = || self.ring.clock().now().saturating_sub(record.began) >= self.access_log.slow();
        record.failure.is_some() || record.status >= 500 || record.status >= 200 && slow()
    }

    /// Adds the names of tenant, route and cluster of an exchange.
    #[cold]
    pub fn name_exchange(&self, id: u32, draft: &mut Draft) {
        let Some(exchange) = self.exchanges.get(id as usize) else { return };
        name_route(&exchange.snapshot, exchange.route, draft);
        if let Some(cluster) = exchange.own_cluster() {
            draft.add(Text::Cluster, cluster.name.as_bytes());
        }
    }

    /// Adds the names of the route of an exchange that was answered here, if it has one.
    #[cold]
    pub fn name_record(&self, record: &Record, draft: &mut Draft) {
        let Some(number) = record.route else { return };
        let routes = self.snapshot.router.routes();
        if let Some(route) = routes.iter().find(|route| self.snapshot.route_number(route.id) == number) {
            name_route(&self.snapshot, route.id, draft);
        }
    }

    /// Adds what the origin was sent, of an exchange that is recorded; the head for it was written last.
    #[inline]
    pub fn note_target(&self, draft: &mut Draft) {
        if draft.numbers.span != 0 {
            draft.add(Text::Target, target(&self.scratch));
        }
    }

    /// Adds the attempts, and the endpoint of the last one, while the snapshot of the exchange is known.
    #[inline(never)]
    pub fn name_attempts(&self, id: u32, draft: &mut Draft) {
        let Some(exchange) = self.exchanges.get(id as usize) else { return };
        let endpoint = exchange.forwarding.endpoint.and_then(|endpoint| exchange.snapshot.endpoint(endpoint));
        let Some((cluster, endpoint)) = endpoint else { return };
        draft.numbers.upstream_tls = cluster.tls.is_some();
        draft.add(Text::Endpoint, endpoint.name.as_bytes());
        if let Some(attempts) = &exchange.attempts {
            draft.add_attempts(attempts);
        }
        if let Some(Second { attempt, held, .. }) = &exchange.second
            && let Some((_, other)) = exchange.snapshot.endpoint(attempt.endpoint)
        {
            draft.add_attempt(&AttemptEntry {
                number: attempt.number,
                status: held.unwrap_or(0),
                began: attempt.began,
                ended: Some(self.ring.clock().now()),
                endpoint: other.name.as_bytes(),
                reason: if held.is_some() { b"" } else { OUTRUN.as_bytes() },
            });
        }
        if let Some(attempt) = exchange.attempt() {
            draft.add_attempt(&AttemptEntry {
                number: attempt.number,
                began: attempt.began,
                endpoint: endpoint.name.as_bytes(),
                ..AttemptEntry::default()
            });
        }
    }

    /// Notes an attempt that ends before its exchange: with a response of this status that is not passed on, or with a failure.
    #[cold]
    pub(super) fn note_attempt(&mut self, id: u32, status: u16, failure: Option<Failure>) {
        if let Some(attempt) = self.exchanges[id as usize].attempt().copied() {
            self.note_ended(id, &attempt, status, failure.map_or("", |failure| failure.answer().reason));
        }
    }

    /// Notes one of two attempts.
    #[cold]
    pub(super) fn note_ended(&mut self, id: u32, attempt: &Attempt, status: u16, reason: &'static str) {
        let exchange = &mut self.exchanges[id as usize];
        let Some((_, endpoint)) = exchange.snapshot.endpoint(attempt.endpoint) else { return };
        let entry = AttemptEntry {
            number: attempt.number,
            status,
            began: attempt.began,
            ended: Some(self.ring.clock().now()),
            endpoint: endpoint.name.as_bytes(),
            reason: reason.as_bytes(),
        };
        let mut attempts = exchange.attempts.take().unwrap_or_else(|| self.access_log.attempts());
        attempts.add(&entry);
        self.exchanges[id as usize].attempts = Some(attempts);
    }

    /// Sends a request over the attempt that has begun last, with its span as the parent of what the origin does.
    pub(super) fn send_named(&mut self, id: u32, request: &mut Queue) {
        self.name_attempt(id, self.exchanges[id as usize].forwarding.attempts, request);
        self.send(id, request);
    }

    /// Makes the span of an attempt the parent of what its origin does, in a request that was written for an earlier one.
    pub(super) fn name_attempt(&mut self, id: u32, number: u8, request: &mut Queue) {
        let exchange = &self.exchanges[id as usize];
        let Some(mut lease) = (if exchange.span == 0 { None } else { request.pop(self.ring.buffers.pieces()) }) else {
            return;
        };
        trace::replace_parent(lease.bytes_mut(), exchange.span, number);
        request.push_front(self.ring.buffers.pieces(), lease);
    }

    /// Hands in an entry, and counts what becomes of it.
    #[inline(never)]
    pub fn end_entry(&mut self, draft: Box<Draft>) {
        let random = self.balancer.random();
        let traced = draft.numbers.span != 0;
        let Outcome { log, observed } = self.access_log.record(draft, random);
        if observed == Recorded::Dropped && traced {
            self.counters.spans_dropped.add(1);
        }
        match log {
            Recorded::Queued => self.counters.log_queued.add(1),
            Recorded::Dropped => self.counters.log_dropped.add(1),
            Recorded::LeftOut => {}
        }
    }

    /// Takes in that the connection of an exchange may be established by now.
    pub(super) fn note_connected(&mut self, connection: u32, id: Option<u32>) {
        let established = self.upstreams.get(connection).is_some_and(|connection| connection.is_connected());
        let exchange = id.and_then(|id| self.exchanges.get_mut(id as usize)).filter(|_| established);
        if let Some(exchange) = exchange
            && let Some(since) = exchange.connecting.take()
        {
            let took = self.ring.clock().now().saturating_sub(since);
            exchange.forwarding.connect = Some(exchange.forwarding.connect.unwrap_or_default() + took);
        }
    }
}

impl Decision {
    /// Adds the names of tenant, route and cluster; where there is no cluster, what the route does.
    #[inline(never)]
    pub fn name(&self, draft: &mut Draft) {
        name_route(&self.snapshot, self.route, draft);
        match self.snapshot.router.routes().get(self.route.index()).map(|route| &route.action) {
            Some(Action::Redirect(_)) => draft.add(Text::Reason, b"redirect"),
            Some(Action::Respond(_)) => draft.add(Text::Reason, b"respond"),
            Some(Action::Cluster(_) | Action::Split(_)) | None => {}
        }
        if let Some(cluster) = self.cluster.and_then(|cluster| self.snapshot.clusters.get(cluster.index())) {
            draft.add(Text::Cluster, cluster.name.as_bytes());
        }
    }
}

impl RouteOf {
    /// Adds the names of tenant and route, and of the cluster, if it has one.
    #[cold]
    pub fn name(&self, draft: &mut Draft) {
        name_route(&self.snapshot, self.route, draft);
        if let Action::Cluster(cluster) = &self.action
            && let Some(cluster) = self.snapshot.clusters.get(cluster.index())
        {
            draft.add(Text::Cluster, cluster.name.as_bytes());
        }
    }
}

fn name_route(snapshot: &Snapshot, route: RouteId, draft: &mut Draft) {
    let Some(route) = snapshot.router.routes().get(route.index()) else { return };
    draft.add(Text::Route, route.name.as_bytes());
    if let Some(tenant) = route.tenant.and_then(|tenant| snapshot.tenant(tenant)) {
        draft.add(Text::Tenant, tenant.spec.name.as_bytes());
    }
}
