//! Several requests and hosts in one run, from the command line and from scenarios.

use std::fs;

use serde_json::Value;

use crate::harness::{Origin, command, read_report};

/// `printf xxxxx | sha256sum`.
const FIVE: &str = "eaf16bc07968e013f3f94ab1342472434a39fc3475f11cf341a6c3965974f8e9";

fn run(arguments: &[&str]) -> Value {
    read_report(
        &command(&[&["run", "--json", "--threads", "1", "--fail-below", "0"], arguments].concat()).output().unwrap(),
    )
}

#[test]
fn hosts_get_what_their_weights_say() {
    let (often, seldom) = (Origin::start(&["--delay", "1ms"]), Origin::start(&[]));
    let urls = [format!("{}@3", often.url), seldom.url.clone()];
    let report = run(&[&urls[0], &urls[1], "-n", "400", "-c", "4"]);
    assert_eq!(report["answered"], 400);
    // A host has up to four connections, and one for the probe.
    assert_eq!([often.end(), seldom.end()], [(300, 5), (100, 5)]);
}

#[test]
fn bodies_are_judged_by_their_hash() {
    let origin = Origin::start(&["--size", "5"]);
    let long = Origin::start(&["--size", "200000", "--chunked"]);
    let other = "0".repeat(64);
    for (url, hash, wrong) in [(&origin.url, FIVE, 0), (&origin.url, &other, 20), (&long.url, &hash_of_x(200_000), 0)] {
        let report = run(&[url, "-n", "20", "-c", "3", "--pipeline", "2", "--expect-sha256", hash]);
        assert_eq!(report["errors"]["body"], wrong, "{url}: {report}");
    }
}

#[test]
fn uploads_arrive_as_they_were_sent() {
    let origin = Origin::start(&[]);
    let url = format!("{}/receipt", origin.url);
    let receipt = sha256(format!("300000 {}\n", hash_of_x(300_000)).as_bytes());
    let report = run(&[&url, "-n", "20", "-c", "3", "--body-size", "300000", "--expect-sha256", &receipt]);
    assert_eq!(report["answered"], 20, "{report}");
}

#[test]
fn a_scenario_mixes_requests_each_with_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("order.json"), "xxxxx").unwrap();
    let origin = Origin::start(&["--size", "5"]);
    let receipt = sha256(format!("5 {FIVE}\n").as_bytes());
    let text = format!(
        "connections = 3\n[[request]]\nurl = '/'\nweight = 2\nexpect_sha256 = '{FIVE}'\n\
         [[request]]\nurl = '/status/404'\nexpect_status = 404\nexpect_length = 5\n\
         [[request]]\nurl = '{}/receipt'\nbody_file = 'order.json'\nexpect_sha256 = '{receipt}'\n\
         [[request]]\nurl = '/'\nmethod = 'HEAD'\nexpect_length = 0\n[[request]]\nurl = '/status/500'\n",
        origin.url
    );
    let file = folder.path().join("shop.toml");
    fs::write(&file, text).unwrap();
    let report = run(&["--scenario", file.to_str().unwrap(), &origin.url, "-n", "60"]);
    assert_eq!((&report["answered"], &report["errors"]["status"]), (&50.into(), &10.into()), "{report}");
    assert_eq!(origin.end(), (60, 4));
}

#[test]
fn steps_and_ramps_send_as_many_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(&[]);
    let step = |duration, rate| format!("[[step]]\nduration = '{duration}'\nrate = {rate}\n");
    let steps =
        [step("400ms", "500"), step("400ms", "[500, 1000]"), step("200ms", "0"), step("100ms", "2000")].concat();
    let file = folder.path().join("steps.toml");
    fs::write(&file, format!("warmup = '100ms'\n[[request]]\nurl = '{}/'\n{steps}", origin.url)).unwrap();
    let report = run(&["--scenario", file.to_str().unwrap(), "-c", "200"]);
    // 200 + 300 + 0 + 200; the first step's rate also warms up.
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((count("sent") + count("unsent"), report["loop"].as_str()), (700, Some("open")), "{report}");
    assert_eq!(report["rate"], Value::Null);
}

#[test]
fn a_scenario_is_refused_with_all_its_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let text = "warmup = \"1d\"\n\n[[request]]\nurl = \"/\"\nweigth = 3\nheaders = { accept = 3 }\n";
    fs::write(folder.path().join("shop.toml"), text).unwrap();
    let output = command(&["run", "--scenario", "shop.toml"]).current_dir(folder.path()).output().unwrap();
    let expected = "\
shop.toml:1:10: error: this is no value of `warmup`
    1 | warmup = \"1d\"
      |          ^^^^
      help: write a number and its unit: \"20us\", \"500ms\", \"10s\", \"2m\" or \"1h\"
shop.toml:4:7: error: `/` is only a path
    4 | url = \"/\"
      |       ^^^
      help: name its host by a URL on the command line
shop.toml:5:1: error: unknown key `weigth` in [[request]]
    5 | weigth = 3
      | ^^^^^^
      help: did you mean `weight`?
shop.toml:6:22: error: this is no value of `accept`
    6 | headers = { accept = 3 }
      |                      ^
      help: write a table of strings: { accept = \"image/webp\" }
cairn-load: scenario shop.toml is invalid: 4 errors
";
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(1), expected));
}

fn hash_of_x(bytes: usize) -> String {
    sha256(&vec![b'x'; bytes])
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
