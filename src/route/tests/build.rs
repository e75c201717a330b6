//! What compiling refuses.

use super::*;

fn errors(specs: &[RouteSpec]) -> Vec<String> {
    Router::build(specs, &[Protocol::Http; 2]).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn same_match_twice() {
    for (first, second, key, host) in [
        ("/a", "/a/ #2", "path_prefix", "on any host"),
        ("=/a GET POST", "=/a POST GET #2", "path", "on any host"),
        ("x ~a", "y x ~a #2", "path_regex", "host x"),
        ("*.x", "*.x #2", "hosts", "host x"),
        ("", "#2", "name", "on any host"),
        ("/a @10.0.0.0/8 @fd00::/8 !GET", "/a !GET @fd00::/8 @10.0.0.0/8 #2", "path_prefix", "on any host"),
        ("/a c:x=1 https :80", "/a :80 https c:x=1 #2", "path_prefix", "on any host"),
        ("/a h:x=1 h:y=~2 q:z=+", "/a q:z=+ h:y=~2 h:x=1 #2", "path_prefix", "on any host"),
    ] {
        let expected = format!("route {second:?}: {key}: matches the same requests as route {first:?} ({host})");
        assert_eq!(errors(&[route(first), route(second)]), [expected]);
    }
}

#[test]
fn a_pair_is_reported_once() {
    assert_eq!(errors(&[route("x y z /a"), route("x y z /a #2")]).len(), 1);
    assert_eq!(errors(&[route("/a"), route("/a #2"), route("/a #3")]).len(), 2);
}

#[test]
fn different_matches_are_no_duplicates() {
    let texts = [
        "/a",
        "=/a",
        "~/a",
        "/",
        "",
        "x",
        "*.x",
        "x /a",
        "/a GET",
        "/a GET POST",
        "/a h:x=1",
        "/a h:x=~1",
        "/a q:x=1",
        "/a c:x=1",
        "/a @10.0.0.0/8",
        "/a @10.0.0.0/16",
        "/a https",
        "/a http",
        "/a :80",
        "/a !GET",
        "/a !c:x=1",
        "/a !https",
    ];
    assert!(Router::build(&texts.map(route), &[Protocol::Http; 2]).is_ok());
    let mut specs = [route("/a"), route("/a #2")];
    specs[0].listeners = vec![ListenerId(0)];
    specs[1].listeners = vec![ListenerId(1)];
    assert!(Router::build(&specs, &[Protocol::Http; 2]).is_ok());
    assert!(Router::build(&[route("x x /a")], &[Protocol::Http; 2]).is_ok(), "a host named twice");
}

#[test]
fn every_problem_is_reported() {
    let mut specs =
        [route("~("), route("~a)(b"), route("h:x=~["), route("=a"), route("#rewrite ~x"), route("#split"), route("#l")];
    specs[3].path = PathPattern::Exact("a".into());
    specs[4].rewrite_path = Some(PathEdit::Prefix("/".into()));
    specs[5].action = ActionSpec::Split(Vec::new());
    specs[6].listeners = vec![ListenerId(9)];
    specs[6].hosts = vec![HostPattern::Exact("x".repeat(254))];
    let errors = Router::build(&specs, &[Protocol::Http; 2]).unwrap_err();
    let mut keys: Vec<_> = errors.iter().map(|error| error.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["headers", "hosts", "listeners", "path", "path_regex", "path_regex", "rewrite", "split"]);
}
