//! Tenants: whose problem is whose, what a tenant's file can say, and that it cannot leave its claims.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::id::{ClusterId, ListenerId, TenantId};
use crate::route::{ActionSpec, HostPattern, PathPattern};

/// A directory with a root that has two tenants, `a` and `b`.
struct Company(tempfile::TempDir);

const ROOT: &str = r#"
[[listener]]
name = "public"
bind = "127.0.0.1:0"
[[listener]]
name = "inner"
bind = "127.0.0.1:0"
[[route]]
name = "alive"
path = "/alive"
cluster = "root"
[[cluster]]
name = "root"
endpoints = ["127.0.0.1:1"]
[[tenant]]
name = "a"
file = "a/a.toml"
claims = [{ host = "a.example.com", path_prefix = "/x", listeners = ["inner"] }]
limits = { max_timeout = "20s", requests = 5, requests_per_second = 7, endpoint_networks = ["127.0.0.0/8", "unix"] }
defaults = { timeout = "7s" }
[[tenant]]
name = "b"
file = "b/b.toml"
claims = [{ host = "*.b.example.com" }, { host = "b.example.com" }]
"#;
const A: &str = r#"
[[route]]
name = "one"
cluster = "app"
[[cluster]]
name = "app"
endpoints = ["127.0.0.1:2"]
timeouts = { connect = "3s" }
"#;
const B: &str = r#"
[[route]]
hosts = ["b.example.com", "*.c.b.example.com"]
path_regex = "/[a-z]+"
split = [{ cluster = "app", weight = 1 }, { cluster = "other", weight = 1 }]
timeout = "50s"
[[cluster]]
name = "app"
endpoints = ["127.0.0.1:3"]
[[cluster]]
name = "other"
endpoints = ["127.0.0.1:4"]
"#;

impl Company {
    fn new() -> Self {
        let company = Self(tempfile::tempdir().unwrap());
        fs::create_dir(company.path("a")).unwrap();
        fs::create_dir(company.path("b")).unwrap();
        company.write("cairn.toml", ROOT);
        company.write("a/a.toml", A);
        company.write("b/b.toml", B);
        company
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Result<Config, Report> {
        load(&self.path("cairn.toml"))
    }
}

fn states(config: &Config) -> Vec<(&str, TenantState, usize, usize, bool)> {
    let tenants = config.tenants.iter();
    tenants.map(|it| (it.name.as_str(), it.state, it.routes, it.clusters, it.problems.is_some())).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.snapshot.routes.iter().map(|route| route.name.as_str()).collect()
}

#[test]
fn tenants_are_scoped_narrowed_and_capped() {
    let company = Company::new();
    let config = company.load().unwrap();
    let spec = &config.snapshot;
    assert_eq!(names(&config), ["alive", "a/one", "b/route-1"]);
    let clusters: Vec<_> = spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(clusters, ["root", "a/app", "b/app", "b/other"]);

    let a = &spec.routes[1];
    assert_eq!((a.tenant, a.listeners.as_slice()), (Some(TenantId(0)), &[ListenerId(1)][..]));
    assert_eq!(a.hosts, [HostPattern::Exact("a.example.com".into())]);
    assert_eq!((&a.path, &a.action), (&PathPattern::Prefix("/x".into()), &ActionSpec::Cluster(ClusterId(1))));
    assert_eq!(a.timeout, Some(Duration::from_secs(7)));
    let cluster = &spec.clusters[1];
    let timeouts = (cluster.connect_timeout, cluster.response_timeout);
    assert_eq!(timeouts, (Duration::from_secs(3), Duration::from_secs(20)));

    let b = &spec.routes[2];
    assert_eq!((b.tenant, b.listeners.len()), (Some(TenantId(1)), 0));
    assert_eq!(b.action, ActionSpec::Split(vec![(ClusterId(2), 1), (ClusterId(3), 1)]));
    assert_eq!((spec.routes[0].tenant, b.timeout), (None, Some(Duration::from_secs(50))));

    let limits: Vec<_> =
        spec.tenants.iter().map(|it| (it.name.as_str(), it.requests, it.requests_per_second)).collect();
    assert_eq!(limits, [("a", 5, 7), ("b", 0, 0)]);
    assert_eq!(states(&config), [("a", TenantState::Live, 1, 1, false), ("b", TenantState::Live, 1, 2, false)]);
    assert!(config.files.contains(&company.path("a/a.toml")), "{:?}", config.files);
    assert!(config.route_place(1).ends_with("a/a.toml:2"), "{}", config.route_place(1));
    assert!(config.compile(1, &mut Ledger::default()).is_ok());
}

#[test]
fn a_broken_file_is_served_as_it_was_and_moves_nobody_else() {
    let company = Company::new();
    let mut loader = Loader::new(company.path("cairn.toml"));
    let good = loader.load().unwrap();
    for broken in ["[[route", "[[route]]\nclutser = 7", ""] {
        company.write("a/a.toml", broken);
        if broken.is_empty() {
            fs::remove_file(company.path("a/a.toml")).unwrap();
        }
        company.write("b/b.toml", &B.replace("50s", "51s"));
        let config = loader.load().unwrap();
        assert_eq!(states(&config)[0], ("a", TenantState::Stale, 1, 1, true), "{broken}");
        assert_eq!(config.snapshot.routes[1], good.snapshot.routes[1]);
        assert_eq!(config.snapshot.routes[2].timeout, Some(Duration::from_secs(51)));
        assert!(config.compile(2, &mut Ledger::default()).is_ok());
    }
    // The root moves the claim: the last good version is held inside of the new one.
    company.write("cairn.toml", &ROOT.replace("/x", "/y"));
    let config = loader.load().unwrap();
    assert_eq!(config.snapshot.routes[1].path, PathPattern::Prefix("/y".into()));
    // It does not fit the root of now, but that of then.
    company.write("cairn.toml", &ROOT.replace("20s", "2s").replace("7s", "1s"));
    assert_eq!(states(&loader.load().unwrap())[0], ("a", TenantState::Absent, 0, 0, true));
    company.write("cairn.toml", ROOT);
    assert_eq!(loader.load().unwrap().snapshot.routes[1], good.snapshot.routes[1]);
    company.write("a/a.toml", A);
    assert_eq!(states(&loader.load().unwrap())[0], ("a", TenantState::Live, 1, 1, false));
}

#[test]
fn without_a_good_version_the_claims_answer_503() {
    let company = Company::new();
    company.write("b/b.toml", "[[listener]]\n");
    let mut loader = Loader::new(company.path("cairn.toml"));
    let config = loader.load().unwrap();
    assert_eq!(names(&config), ["alive", "a/one", "b/unavailable", "b/unavailable-2"]);
    assert_eq!(states(&config)[1], ("b", TenantState::Absent, 0, 0, true));
    let report = config.tenants[1].problems.as_ref().unwrap().to_string();
    assert!(report.contains("b/b.toml:1:3: error: unknown key `listener` in a tenant's file"), "{report}");
    let answer = &config.snapshot.routes[2];
    assert_eq!(answer.hosts, [HostPattern::Wildcard("b.example.com".into())]);
    assert!(matches!(answer.action, ActionSpec::Respond { status: 503, .. }));
    assert!(config.route_place(2).ends_with("cairn.toml:24"), "{}", config.route_place(2));
    assert!(config.compile(1, &mut Ledger::default()).is_ok());

    // Where the root answers the same requests, it goes on to.
    let own = "[[route]]\nhosts = [\"b.example.com\"]\nrespond = { status = 200 }\n";
    company.write("cairn.toml", &format!("{ROOT}{own}"));
    let config = loader.load().unwrap();
    assert_eq!(names(&config), ["alive", "route-2", "a/one", "b/unavailable"]);
    assert!(config.compile(1, &mut Ledger::default()).is_ok());
}

/// Compiling must not fail for a tenant's sake: that would be everybody's problem.
#[test]
fn what_only_compiling_finds_is_the_tenants_problem_too() {
    let rival = "[[route]]\nhosts = [\"a.example.com\"]\npath_prefix = \"/x\"\nrespond = { status = 200 }\n";
    let cases = [
        (
            ROOT.to_owned(),
            format!("{A}[[route]]\nrespond = {{ status = 200 }}\n"),
            "route \"a/route-2\": matches the same",
        ),
        (format!("{ROOT}{rival}"), A.to_owned(), "route \"a/one\": matches the same requests as route \"route-2\""),
    ];
    for (root, file, expected) in cases {
        let company = Company::new();
        company.write("cairn.toml", &root);
        company.write("a/a.toml", &file);
        let config = Loader::new(company.path("cairn.toml")).load().unwrap();
        assert_eq!(states(&config)[0].1, TenantState::Absent);
        let report = config.tenants[0].problems.as_ref().unwrap().to_string();
        assert!(report.contains(expected) && report.contains("note: the other one is here"), "{report}");
        assert!(config.compile(1, &mut Ledger::default()).is_ok());
    }
}

#[test]
fn a_check_finds_the_problems_of_all_files() {
    let company = Company::new();
    company.write("cairn.toml", &ROOT.replace("[[cluster]]\nname", "[[cluster]]\nnome"));
    company.write("a/a.toml", &A.replace("name", "nome"));
    company.write("b/b.toml", "[[route");
    let report = company.load().unwrap_err();
    let text = report.to_string();
    for expected in ["cairn.toml:13:1: error: unknown key `nome`", "a/a.toml:3:1: error", "b/b.toml:1:8: error"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn a_team_checks_its_file_alone() {
    let company = Company::new();
    company.write("b/b.toml", "[[route");
    company.write("next.toml", &A.replace("\"app\"\n[", "\"ap\"\n["));
    let check = |name, file: &str| check_tenant(&company.path("cairn.toml"), name, &company.path(file)).unwrap();
    assert!(check("c", "next.toml").is_none());
    let report = check("a", "next.toml").unwrap().problems.unwrap();
    assert_eq!(report.errors(), 1);
    assert!(report.to_string().contains("next.toml:4:11: error: there is no cluster named \"ap\""), "{report}");
    let report = check("a", "a/a.toml").unwrap();
    assert_eq!((report.state, report.routes, report.problems.is_none()), (TenantState::Live, 1, true));
}

/// The operator's environment and files are not the tenant's; a file beside its own is, and stays as it was with it.
#[test]
fn references_of_a_tenant_are_confined_and_kept() {
    let company = Company::new();
    company.write("secret", "root's");
    company.write("a/token", "first");
    let route = |value: &str| {
        let header = format!("cluster = \"app\"\nrequest_headers = {{ set = {{ x-token = \"{value}\" }} }}\n");
        A.replace("cluster = \"app\"\n", &header)
    };
    let mut loader = Loader::new(company.path("cairn.toml"));
    for (value, why) in [
        ("${PATH}", "a tenant's file cannot read the environment"),
        ("@../secret", "it leads out of the directory"),
        ("@/etc/hostname", "it leads out of the directory"),
    ] {
        company.write("a/a.toml", &route(value));
        let report = loader.load().unwrap().tenants[0].problems.clone().unwrap().to_string();
        assert!(report.contains(why), "{report}");
    }
    let token = |config: &Config| config.snapshot.routes[1].request_headers.set[0].1.clone();
    company.write("a/a.toml", &route("@token"));
    let config = loader.load().unwrap();
    assert_eq!((token(&config).as_str(), config.shown("first")), ("first", "@token"));
    assert!(config.files.contains(&company.path("a/token")));
    company.write("a/token", "second");
    company.write("a/a.toml", "[[route");
    let config = loader.load().unwrap();
    assert_eq!((config.tenants[0].state, token(&config).as_str()), (TenantState::Stale, "first"));
}

/// The block that the documented file has as a comment.
#[test]
fn the_documented_tenant_is_accepted() {
    let company = Company::new();
    let document = document();
    let (rest, block) = document.split_once("# [[tenant]]").unwrap();
    let keys = block.lines().filter_map(|line| line.strip_prefix("# "));
    let keys: Vec<_> = keys.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
    company.write("cairn.toml", &format!("{rest}[[tenant]]\n{}\n", keys.join("\n")));
    fs::create_dir(company.path("teams")).unwrap();
    company.write("teams/payments.toml", "[[route]]\nname = \"a\"\nredirect = { path = \"/payments/b\" }\n");
    let config = company.load().unwrap();
    assert_eq!(names(&config).last(), Some(&"payments/a"));
}
