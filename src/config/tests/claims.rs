//! Whatever stands in the files of tenants, none of their routes takes a request outside of what they claim, and the
//! configuration compiles. Claims are checked here by the simplest code that can be right.

use std::cell::Cell;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Settings, RngAlgorithm, TestRng, TestRunner};

use super::super::{Loader, TenantState};
use crate::id::ListenerId;
use crate::route::Sample;
use crate::snapshot::Ledger;

const HOSTS: [&str; 6] = ["*", "a.example", "*.a.example", "b.a.example", "*.example", "c.b.a.example"];
const REQUEST_HOSTS: [&str; 5] = ["a.example", "b.a.example", "c.b.a.example", "d.example", "example"];
const PATHS: [&str; 7] = ["/", "/x", "/x/", "/x/y", "/xy", "/y", "/y/x"];
const LISTENERS: [&str; 2] = ["first", "second"];

/// All of them hold for the requests that are tried.
const CONDITIONS: [&str; 5] = [
    "",
    "methods = [\"GET\"]",
    "client_ip = [\"0.0.0.0/0\"]",
    "scheme = \"http\"",
    "not = { client_ip = [\"10.0.0.0/8\"], methods = [\"PUT\"], cookies = { a = { present = true } } }",
];

#[derive(Clone, Debug)]
struct Claim {
    host: &'static str,
    prefix: &'static str,
    listener: Option<usize>,
}

/// Lines of one `[[route]]`.
#[derive(Clone, Debug)]
struct Lines {
    hosts: Option<Vec<&'static str>>,
    path: Option<(&'static str, &'static str)>,
    condition: &'static str,
    /// Hosts and condition stand in a group.
    grouped: bool,
}

impl Claim {
    fn holds(&self, listener: usize, request: &Sample<'_>) -> bool {
        let host = match self.host.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => request.host.ends_with(suffix),
            None => request.host == self.host,
        };
        let prefix = self.prefix.trim_end_matches('/');
        let path = match request.path {
            "*" => prefix.is_empty(),
            path => path == prefix || path.starts_with(&format!("{prefix}/")),
        };
        host && path && self.listener.is_none_or(|own| own == listener)
    }
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let claim = (select(&HOSTS), select(&PATHS), prop::option::weighted(0.3, 0..2_usize));
    prop::collection::vec(claim.prop_map(|(host, prefix, listener)| Claim { host, prefix, listener }), 1..3)
}

/// At most `most` routes, most of them valid and near to some claim.
fn routes(most: usize) -> impl Strategy<Value = Vec<Lines>> {
    let key = select(&["path", "path_prefix", "path_prefix", "path_prefix", "path_regex"]);
    let one = select(&HOSTS).prop_map(|host| vec![host]);
    let two = (select(&HOSTS[1..3]), select(&HOSTS[3..])).prop_map(|(first, second)| vec![first, second]);
    let hosts = prop_oneof![3 => Just(None), 2 => one.prop_map(Some), 1 => two.prop_map(Some)];
    let route = (hosts, prop::option::of((key, select(&PATHS))), select(&CONDITIONS), any::<bool>());
    prop::collection::vec(
        route.prop_map(|(hosts, path, condition, grouped)| Lines { hosts, path, condition, grouped }),
        0..=most,
    )
}

fn root(tenants: &[(Vec<Claim>, Vec<Lines>)], own: &[Lines]) -> String {
    let mut text = String::new();
    for name in LISTENERS {
        let _ = writeln!(text, "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"");
    }
    text += &file(own);
    for (number, (claims, _)) in tenants.iter().enumerate() {
        let _ = writeln!(text, "[[tenant]]\nname = \"t{number}\"\nfile = \"t{number}.toml\"\nclaims = [");
        for Claim { host, prefix, listener } in claims {
            let listeners = listener.map(|at| format!(", listeners = [\"{}\"]", LISTENERS[at])).unwrap_or_default();
            let _ = writeln!(text, "{{ host = \"{host}\", path_prefix = \"{prefix}\"{listeners} }},");
        }
        text += "]\n";
    }
    text
}

fn file(routes: &[Lines]) -> String {
    let mut text = String::new();
    for (number, route) in routes.iter().enumerate() {
        let hosts = route.hosts.as_ref().map(|hosts| format!("hosts = {hosts:?}\n")).unwrap_or_default();
        let common = format!("{hosts}{}\n", route.condition);
        match route.grouped {
            true => {
                let _ = write!(text, "[[group]]\nname = \"g{number}\"\n{common}[[group.route]]\n");
            }
            false => {
                let _ = write!(text, "[[route]]\n{common}");
            }
        }
        text += "respond = { status = 200 }\n";
        if let Some((key, path)) = route.path {
            let _ = writeln!(text, "{key} = \"{path}\"");
        }
    }
    text
}

#[test]
fn no_route_of_a_tenant_takes_a_request_outside_of_its_claims() {
    let directory = tempfile::tempdir().unwrap();
    let counts = [const { Cell::new(0) }; 3];
    let [live, absent, taken] = &counts;
    let settings = Settings { cases: 400, failure_persistence: None, ..Settings::default() };
    let mut runner = TestRunner::new_with_rng(settings, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tables = (prop::collection::vec((claims(), routes(2)), 1..3), routes(1));
    let outcome = runner.run(&tables, |(tenants, own)| {
        fs::write(directory.path().join("cairn.toml"), root(&tenants, &own)).unwrap();
        for (number, (_, routes)) in tenants.iter().enumerate() {
            fs::write(directory.path().join(format!("t{number}.toml")), file(routes)).unwrap();
        }
        // Overlapping claims, and routes of the root's own that clash, are no matter of this test.
        let Ok(config) = Loader::new(directory.path().join("cairn.toml")).load() else { return Ok(()) };
        let mut alone = config.clone();
        alone.snapshot.routes.retain(|route| route.tenant.is_none());
        if alone.compile(1, &mut Ledger::default()).is_err() {
            return Ok(());
        }
        for tenant in &config.tenants {
            let count = if tenant.state == TenantState::Live { live } else { absent };
            count.set(count.get() + 1);
        }
        let specs = config.snapshot.routes.clone();
        let snapshot = config.compile(1, &mut Ledger::default());
        prop_assert!(snapshot.is_ok(), "{}", snapshot.unwrap_err());
        let router = snapshot.unwrap().router;
        for (listener, host) in (0..2).flat_map(|listener| REQUEST_HOSTS.map(|host| (listener, host))) {
            for path in PATHS.into_iter().chain(["/x/y/z", "/z", "/X", "*"]) {
                let request = Sample { client_ip: Some(Ipv4Addr::LOCALHOST.into()), ..Sample::get(host, path) };
                let Some(route) = router.find(ListenerId(listener as u16), &request) else { continue };
                let Some(tenant) = specs[route.id.index()].tenant else { continue };
                taken.set(taken.get() + 1);
                let claims = &tenants[tenant.index()].0;
                let inside = claims.iter().any(|claim| claim.holds(listener, &request));
                prop_assert!(
                    inside,
                    "{} took {host}{path}\n{}{}",
                    route.name,
                    root(&tenants, &own),
                    file(&tenants[tenant.index()].1)
                );
            }
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    assert!(counts.iter().all(|count| count.get() > 100), "too little was tried: {counts:?}");
}
