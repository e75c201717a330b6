//! Tenants: whose problem is whose, what a tenant's file can say, and that it cannot leave its claims.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
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
limits = { endpoint_networks = ["127.0.0.0/8"] }
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

/// When a file changes that is not the tenant's is not the tenant's to know, nor a reason for a reload.
#[test]
fn files_that_are_not_the_tenants_are_not_looked_at() {
    let company = Company::new();
    let secret = company.0.path().canonicalize().unwrap().join("secret");
    fs::write(&secret, "1").unwrap();
    fs::write(company.path("a/token"), "own").unwrap();
    symlink("../secret", company.path("a/link")).unwrap();
    symlink("..", company.path("a/up")).unwrap();
    let mut loader = Loader::new(company.path("cairn.toml"));
    let mut judge = |what: &str, expected: TenantState| {
        let state = loader.load().unwrap().tenants[0].state;
        assert_eq!(state, expected, "{what}");
        let (file_stamps, watch_set) = (loader.file_stamps().clone(), loader.file_stamps().watch_set());
        fs::write(&secret, fs::read_to_string(&secret).unwrap() + "1").unwrap();
        assert!(!file_stamps.has_changed(), "{what}");
        assert!(!watch_set.concerns(&secret) && !file_stamps.paths().any(|path| path == secret), "{what}");
        file_stamps
    };
    let token = |value: &str| {
        let header = format!("cluster = \"app\"\nrequest_headers = {{ set = {{ x-token = \"@{value}\" }} }}\n");
        A.replace("cluster = \"app\"\n", &header)
    };
    for name in ["../secret", secret.to_str().unwrap(), "./../secret", "up/secret", "link"] {
        company.write("a/a.toml", &token(name));
        judge(name, TenantState::Absent);
    }
    // The last one is a link, which is the tenant's to put right.
    let file_stamps = judge("link", TenantState::Absent);
    fs::remove_file(company.path("a/link")).unwrap();
    symlink("token", company.path("a/link")).unwrap();
    assert!(file_stamps.has_changed());
    let file_stamps = judge("a link to its own", TenantState::Live);
    company.write("a/token", "another");
    assert!(file_stamps.has_changed());
    // The tenant's file itself.
    fs::remove_file(company.path("a/a.toml")).unwrap();
    symlink("../secret", company.path("a/a.toml")).unwrap();
    let file_stamps = judge("the file", TenantState::Stale);
    fs::remove_file(company.path("a/a.toml")).unwrap();
    company.write("a/a.toml", A);
    assert!(file_stamps.has_changed());
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

/// The report on tenant `b`, whose cluster has this endpoint and whose limits are these; None: it is served.
fn judged(company: &Company, limits: &str, file: &str) -> Option<String> {
    company.write("cairn.toml", &ROOT.replace("limits = { endpoint_networks = [\"127.0.0.0/8\"] }", limits));
    company.write("b/b.toml", file);
    let config = Loader::new(company.path("cairn.toml")).load().unwrap();
    config.tenants[1].problems.as_ref().map(ToString::to_string)
}

#[test]
fn this_machine_and_the_link_are_given_by_name_alone() {
    let company = Company::new();
    let limits = |networks: &str| match networks {
        "" => String::new(),
        networks => format!("limits = {{ endpoint_networks = [{networks}] }}"),
    };
    let this = Some("is an address of this machine");
    let link = Some("is a link-local address");
    for (address, networks, refusal) in [
        ("10.0.0.1:1", "", None),
        ("127.0.0.1:1", "", this),
        ("127.9.9.9:1", "\"0.0.0.0/0\", \"::/0\"", this),
        ("127.0.0.1:1", "\"127.0.0.1\"", None),
        ("127.0.0.2:1", "\"127.0.0.1\"", this),
        ("127.0.0.2:1", "\"10.0.0.0/8\", \"127.0.0.0/8\"", None),
        ("localhost:1", "", this),
        ("localhost:1", "\"127.0.0.0/8\", \"::1\"", None),
        ("[::1]:1", "\"127.0.0.0/8\"", this),
        ("[::1]:1", "\"::1\"", None),
        ("[::ffff:127.0.0.1]:1", "", this),
        ("[::ffff:127.0.0.1]:1", "\"127.0.0.0/8\"", None),
        ("[::ffff:7f00:1]:1", "\"::/0\"", this),
        ("0.0.0.0:1", "\"127.0.0.0/8\"", this),
        ("[::]:1", "", this),
        ("169.254.169.254:80", "", link),
        ("169.254.169.254:80", "\"169.0.0.0/8\"", link),
        ("169.254.169.254:80", "\"169.254.169.254\"", None),
        ("[::ffff:169.254.169.254]:80", "", link),
        ("[fe80::1]:80", "\"::/0\"", link),
        ("[fe80::1]:80", "\"fe80::/10\"", None),
        ("[febf::1]:80", "", link),
        ("[fec0::1]:80", "", None),
    ] {
        let file = format!("[[cluster]]\nname = \"app\"\nendpoints = [\"{address}\"]\n");
        let report = judged(&company, &limits(networks), &file);
        match refusal {
            None => assert!(report.is_none(), "{address} {networks}: {report:?}"),
            Some(why) => {
                let report = report.unwrap_or_else(|| panic!("{address} {networks} passed"));
                assert!(report.contains(why) && report.contains("endpoint_networks = [\""), "{address}: {report}");
            }
        }
    }
}

/// Through links and other paths, while it is there and while it is not.
#[test]
fn the_admin_socket_is_known_by_what_it_is() {
    let company = Company::new();
    let socket = company.path("admin.sock");
    let root = format!("[admin]\nlisten = \"off\"\nsocket = \"{}\"\n", socket.display());
    let unix = "limits = { endpoint_networks = [\"unix\"] }";
    symlink(&socket, company.path("link")).unwrap();
    symlink("link", company.path("b/chain")).unwrap();
    symlink("../link", company.path("b/chain2")).unwrap();
    symlink(company.0.path(), company.path("b/folder")).unwrap();
    let judge = |path: &str| {
        let file = format!("[[cluster]]\nname = \"app\"\nendpoints = [\"unix:{}\"]\n", company.path(path).display());
        company.write("b/b.toml", &file);
        let text = ROOT.replace("limits = { endpoint_networks = [\"127.0.0.0/8\"] }", unix);
        company.write("cairn.toml", &format!("{root}{text}"));
        let config = Loader::new(company.path("cairn.toml")).load().unwrap();
        let report = config.tenants[1].problems.as_ref().map(ToString::to_string).unwrap_or_default();
        report.contains("is the admin interface of this proxy")
    };
    let aliases = ["admin.sock", "link", "b/chain2", "b/folder/admin.sock", "b/../admin.sock", "b/folder/b/chain2"];
    let strangers = ["other.sock", "b/admin.sock", "b/chain", "nowhere/admin.sock"];
    let all = || aliases.map(|path| (path, true)).into_iter().chain(strangers.map(|path| (path, false)));
    all().for_each(|(path, expected)| assert_eq!(judge(path), expected, "{path} before it is there"));
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::hard_link(&socket, company.path("hard")).unwrap();
    all().chain([("hard", true)]).for_each(|(path, expected)| assert_eq!(judge(path), expected, "{path}"));
}

#[test]
fn a_file_costs_no_more_than_it_may() {
    let company = Company::new();
    let route = |more: &str| format!("[[route]]\nhosts = [\"b.example.com\"]\nrespond = {{ status = 200 }}\n{more}");
    let routes = |count: usize| (0..count).map(|at| route(&format!("path = \"/{at}\"\n"))).collect::<String>();
    let hosts = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("\"a{at}.b.example.com\"")).collect();
        format!("[[route]]\nhosts = [{}]\nrespond = {{ status = 200 }}\n", names.join(", "))
    };
    let expressions = |count: usize| -> String {
        (0..count)
            .map(|at| route(&format!("path = \"/{at}\"\nheaders = {{ x-a = {{ regex = \"[a-z]{{99}}{at}\" }} }}\n")))
            .collect()
    };
    // All to the same one, of which each makes a copy; what the last route has are no references.
    let files = |count: usize| -> String {
        company.write("b/page", "x");
        let file = |value: String| format!("[[route]]\nhosts = [\"b.example.com\"]\n{value}\n");
        let own = "path = \"/@@page\"\nrespond = { body = \"@@page\" }".to_owned();
        (0..count).map(|at| file(format!("path = \"/{at}\"\nrespond = {{ body = \"@page\" }}"))).collect::<String>()
            + &file(own)
    };
    for (limits, file, refusal) in [
        ("", routes(1000), ""),
        ("", routes(1001), "the file has 1001 routes; the tenant may have 1000"),
        ("routes = 2", routes(2), ""),
        ("routes = 2", routes(3), "the operator can give it more: a larger limits.routes"),
        ("names = 3", hosts(3), ""),
        ("names = 3", hosts(4), "the file has 4 hosts and names up to here; the tenant may have 3"),
        ("", hosts(1001), "limits.names"),
        ("expression_bytes = \"64KiB\"", expressions(3), ""),
        ("expression_bytes = \"64KiB\"", expressions(100), "the expressions of the file need automata of"),
        ("", files(100), ""),
        (
            "",
            files(101),
            "b/b.toml:404:20: error: the file refers to 101 files up to here; the tenant may refer to 100",
        ),
        ("files = 2", files(2), ""),
        ("files = 2", files(3), "the operator can give it more: a larger limits.files"),
        ("files = 2", files(90_000), "the file refers to 3 files up to here; the tenant may refer to 2"),
        ("compile_time = \"1ms\"", expressions(900), "the tenant may take 1ms"),
    ] {
        let report = judged(&company, &format!("limits = {{ {limits} }}"), &file);
        match refusal {
            "" => assert!(report.is_none(), "{limits}: {report:?}"),
            why => {
                let report = report.unwrap_or_else(|| panic!("{limits}: it passed"));
                assert!(report.contains(why) && report.contains("limits."), "{}", &report[..200]);
            }
        }
    }
    let inherited = |bytes: usize| {
        let page = format!("[defaults.route]\nerror_pages = [{{ text = \"{}\" }}]\n", "x".repeat(bytes));
        judged(&company, "", &(page + &routes(1000)))
    };
    assert_eq!(inherited(16_000), None);
    assert!(inherited(17_000).is_some_and(|report| report.contains("with what it inherits the file has more than")));
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("\"localhost:{}\"", at + 1)).collect();
        format!("[[cluster]]\nname = \"app\"\nendpoints = [{}]\n", names.join(", "))
    };
    let limits = "limits = { names = 2, endpoint_networks = [\"127.0.0.0/8\", \"::1\"] }";
    assert_eq!(judged(&company, limits, &names(2)), None);
    assert!(judged(&company, limits, &names(3)).is_some_and(|report| report.contains("limits.names")));
}
