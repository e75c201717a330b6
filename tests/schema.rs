//! The JSON Schema against the files under `conf/`, and against files that are wrong. The validator knows the words that the
//! schema uses, and fails on any other. Not here: what only `cairn check` knows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use cairn::config;
use regex::Regex;
use serde_json::Value;

/// Why `value` is not valid; None: it is.
fn problem(schema: &Value, value: &Value) -> Option<String> {
    schema.as_object().unwrap().iter().find_map(|(word, rule)| {
        let holds = |rule: &Value| problem(rule, value).is_none();
        let ok = match word.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                other => panic!("the validator does not know the type {other}"),
            },
            "properties" => {
                let keys = value.as_object().into_iter().flatten();
                return keys.filter_map(|(key, value)| problem(rule.get(key)?, value)).next();
            }
            "additionalProperties" => {
                let known = |key: &String| schema.get("properties").is_some_and(|keys| keys.get(key).is_some());
                let other = value.as_object().into_iter().flatten().filter(|(key, _)| !known(key));
                match rule.as_bool() {
                    Some(false) => return other.map(|(key, _)| format!("unknown key {key}")).next(),
                    _ => return other.filter_map(|(_, value)| problem(rule, value)).next(),
                }
            }
            "items" => return value.as_array().into_iter().flatten().filter_map(|item| problem(rule, item)).next(),
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "anyOf" => rule.as_array().unwrap().iter().any(holds),
            "oneOf" => rule.as_array().unwrap().iter().filter(|rule| holds(rule)).count() == 1,
            "allOf" => return rule.as_array().unwrap().iter().find_map(|rule| problem(rule, value)),
            "not" => !holds(rule),
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "minimum" => value.as_u64().is_none_or(|number| number >= rule.as_u64().unwrap()),
            "maximum" => value.as_u64().is_none_or(|number| number <= rule.as_u64().unwrap()),
            other => panic!("the validator does not know {other}"),
        };
        (!ok).then(|| format!("{word} {rule} does not hold for {value}"))
    })
}

fn check(tenant: bool, text: &str) -> Option<String> {
    let schema = serde_json::from_str(&config::json_schema(tenant)).unwrap();
    problem(&schema, &toml::from_str(text).unwrap())
}

#[test]
fn every_file_of_conf_is_valid() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap() {
        let path = entry.unwrap().path();
        let is_tenants = path.ends_with("teams");
        let files = match fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![path],
        };
        // Beside the example of TLS there may be certificates.
        for file in files.iter().filter(|file| file.extension() == Some("toml".as_ref())) {
            assert_eq!(check(is_tenants, &fs::read_to_string(file).unwrap()), None, "{}", file.display());
        }
    }
    let references =
        "role = \"${ROLE}\"\n[[cluster]]\nname = \"@name\"\nendpoints = []\ntimeouts = { connect = \"${T}\" }";
    assert_eq!(check(false, references), None);
}

#[test]
fn what_is_wrong_is_not_valid() {
    let cases = [
        ("rol = \"edge\"", "unknown key rol"),
        ("role = \"egde\"", "anyOf"),
        ("watch = \"yes\"", "anyOf"),
        ("[workers]\ncount = 1025", "maximum 1024"),
        ("[[listener]]\nname = \"a\"", "required [\"name\",\"bind\"]"),
        ("[[cluster]]\nname = \"a\"\nendpoints = [7]", "anyOf"),
        ("[[cluster]]\nname = \"a\"\nendpoints = []\ntimeouts = { connect = \"5\" }", "pattern"),
        ("[[route]]\nname = \"a\"", "oneOf"),
        ("[[route]]\ncluster = \"a\"\nredirect = {}", "oneOf"),
        ("[[route]]\ncluster = \"a\"\npath = \"/\"\npath_prefix = \"/\"", "oneOf"),
        ("[[route]]\ncluster = \"a\"\nheaders = { x = { regx = \"a\" } }", "anyOf"),
        ("[[tenant]]\nname = \"a\"\nfile = \"a\"\nclaims = [{ path_prefix = \"/\" }]", "required [\"host\"]"),
    ];
    for (text, expected) in cases {
        let problem = check(false, text).unwrap_or_default();
        assert!(problem.starts_with(expected), "{text}: {problem}");
    }
    let file = "[[route]]\nhosts = [\"a\"]\ncluster = \"a\"\n";
    assert_eq!(check(true, file), None);
    for wrong in ["listeners = [\"public\"]", "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\""] {
        assert!(check(true, &format!("{file}{wrong}")).is_some_and(|problem| problem.starts_with("unknown key")));
    }
}
