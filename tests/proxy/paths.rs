//! Which paths reach which route, and in which form an origin gets them. Not here: the forms by themselves (`http::path`).

use crate::harness::{Message, Origin, Proxy, next};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ROLES: [&str; 3] = ["edge", "waypoint", "sidecar"];

fn get(proxy: &Proxy, target: &str) -> Message {
    proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
}

/// What `[[route]]` is in these tests, in a role of its own.
fn start(role: &str, listener: &str, routes: &str, origin: &Origin) -> Proxy {
    let text = format!(
        "role = \"{role}\"\nwatch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n[[listener]]\n\
         name = \"public\"\nbind = \"127.0.0.1:0\"\n{listener}\n{routes}\n[[cluster]]\nname = \"app\"\nendpoints = [\"{}\"]\n",
        origin.address
    );
    Proxy::start(&text, &[])
}

/// The target that the origin gets; None: it gets none.
fn forwarded(proxy: &Proxy, requests: &std::sync::mpsc::Receiver<Message>, target: &str) -> Option<String> {
    let answer = get(proxy, target);
    (answer.status() == 200).then(|| next(requests).line().split(' ').nth(1).unwrap().to_owned())
}

#[test]
fn no_spelling_leads_out_of_a_prefix() {
    for role in ROLES {
        let (origin, requests) = Origin::recording(OK);
        let proxy = start(role, "", "[[route]]\npath_prefix = \"/public\"\ncluster = \"app\"", &origin);
        for up in ["..", "%2e%2E", ".%2e", "..;x", "..%3b"] {
            for odd in ["", "%/", "%00/", "a%2fb/", "%zz/", "a//", "\\", "%5c", "x;y/"] {
                for target in [
                    format!("/public/{odd}{up}/{up}/admin"),
                    format!("/public/{odd}{up}/{up}/{up}/admin"),
                    format!("/public/{odd}{up}\\{up}\\admin"),
                    format!("/public/{odd}{up}%2f{up}%2fadmin"),
                    format!("/public\\{odd}{up}/{up}%5cadmin"),
                    format!("/public/{odd}/{up}/{up}/public/{up}/admin"),
                ] {
                    if let Some(got) = forwarded(&proxy, &requests, &target) {
                        assert!(got.starts_with("/public/") && !got.contains(up), "{role}: {target} -> {got}");
                    }
                }
            }
        }
        for target in ["/public/..\\admin", "/public/..%5cadmin", "/public/..%2fadmin", "/public\\x", "/public%5cx"] {
            let status = get(&proxy, target).status();
            assert!([400, 404].contains(&status), "{role}: {target} {status}");
        }
    }
}

#[test]
fn a_denied_prefix_is_denied_in_every_spelling() {
    let routes = "[[route]]\npath_prefix = \"/admin\"\nrespond = { status = 403 }\n[[route]]\ncluster = \"app\"";
    for role in ROLES {
        let origin = Origin::answering(OK);
        let proxy = start(role, "", routes, &origin);
        for target in [
            "/admin",
            "//admin",
            "/%61dmin/x",
            "/x/../admin",
            "/%/../admin",
            "/%00/../admin",
            "/x\\..\\admin",
            "/admin\\x",
            "/admin%5cx",
            "/x/..%2fadmin",
            "/../admin",
            "/x/../../admin",
            "/./admin",
            "/.//admin/",
            "/x/..;/admin",
            "/;/../admin",
        ] {
            let status = get(&proxy, target).status();
            assert!([400, 403].contains(&status), "{role}: {target} {status}");
        }
    }
}

#[test]
fn a_path_above_the_root_is_refused_everywhere() {
    for role in ROLES {
        let origin = Origin::answering(OK);
        let proxy = start(role, "", "[[route]]\ncluster = \"app\"", &origin);
        for target in
            ["/..", "/../a", "/a/../../b", "/%2e%2e/a", "/a/%/../../../b", "/a\\..\\..\\b", "http://a.example/../x"]
        {
            assert_eq!(get(&proxy, target).status(), 400, "{role}: {target}");
        }
    }
}

/// (target, what the origin gets by itself, normalised, and with its prefix rewritten)
#[test]
fn what_was_sent_goes_on() {
    let targets = [
        ("/pre/https://img.example/a.png", "", "/pre/https:/img.example/a.png", "/new/https:/img.example/a.png"),
        ("/pre//a//?b=//%7e/..", "", "/pre/a/?b=//%7e/..", "/new/a/?b=//%7e/.."),
        ("//pre/a", "", "/pre/a", "/new/a"),
        ("/pre/%7euser/a%2fb/%e2%82%ac", "", "/pre/~user/a%2Fb/%E2%82%AC", "/new/~user/a%2fb/%e2%82%ac"),
        ("/pre/./x/../%7ea//b", "/pre/%7ea//b", "/pre/~a/b", "/new/~a/b"),
        ("/x/%2E%2e/pre/a%20b", "/pre/a%20b", "/pre/a%20b", "/new/a%20b"),
    ];
    for role in ROLES {
        for (listener, rewrite, column) in
            [("", "", 0), ("normalize_path = true", "", 1), ("", "rewrite.path_prefix = \"/new\"", 2)]
        {
            let (origin, requests) = Origin::recording(OK);
            let route = format!("[[route]]\npath_prefix = \"/pre\"\ncluster = \"app\"\n{rewrite}");
            let proxy = start(role, listener, &route, &origin);
            for (target, alone, normal, rewritten) in targets {
                let want = [if alone.is_empty() { target } else { alone }, normal, rewritten][column];
                assert_eq!(forwarded(&proxy, &requests, target).as_deref(), Some(want), "{role} {listener} {target}");
            }
        }
    }
}

/// (target, and for `keep`, `refuse` and `decode`: the status or what the origin gets)
#[test]
fn an_encoded_slash_is_kept_refused_or_decoded() {
    let deny = "[[route]]\npath_prefix = \"/admin\"\nrespond = { status = 403 }\n[[route]]\ncluster = \"app\"";
    for role in ROLES {
        for (key, plain, denied) in [
            ("", Ok("/p/a%2fb"), Ok("/admin%2fusers")),
            ("encoded_slash = \"keep\"", Ok("/p/a%2fb"), Ok("/admin%2fusers")),
            ("encoded_slash = \"refuse\"", Err(400), Err(400)),
            ("encoded_slash = \"decode\"", Ok("/p/a/b"), Err(403)),
        ] {
            let (origin, requests) = Origin::recording(OK);
            let proxy = start(role, key, deny, &origin);
            for (target, want) in [("/p/a%2fb", plain), ("/admin%2fusers", denied)] {
                match want {
                    Ok(want) => assert_eq!(forwarded(&proxy, &requests, target).as_deref(), Some(want), "{role} {key}"),
                    Err(status) => assert_eq!(get(&proxy, target).status(), status, "{role} {key} {target}"),
                }
            }
        }
    }
}

#[test]
fn escapes_are_the_same_in_both_cases() {
    let origin = Origin::answering(OK);
    for path in ["path = \"/caf%c3%a9\"", "path = \"/caf%C3%A9\"", "path_regex = \"/caf%c3%a9\""] {
        let proxy = start("edge", "", &format!("[[route]]\n{path}\nrespond = {{ status = 201 }}"), &origin);
        for target in ["/caf%c3%a9", "/caf%C3%A9", "/caf%c3%A9"] {
            assert_eq!(get(&proxy, target).status(), 201, "{path} {target}");
        }
    }
}
