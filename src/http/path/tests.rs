//! Paths by example, and against models of origins: each origin serves the path that was routed. Not here: routes.

use proptest::prelude::{ProptestConfig, proptest};

use super::PathError::{
    AboveRoot, Ambiguous, Backslash, BadPercent, EncodedControl, EncodedNul, EncodedSlash as SlashEncoded, NotAbsolute,
};
use super::*;

const LENIENT: Rules = Rules { strict: false, encoded_slash: EncodedSlash::Keep, normalize: false };
const STRICT: Rules = Rules { strict: true, ..LENIENT };

/// The normal form and the forwarded form.
fn read(path: &str, rules: Rules) -> Result<(String, String), PathError> {
    let mut forms = Forms::with_capacity(0);
    forms.read(path.as_bytes(), rules)?;
    assert_eq!(
        forms.rewritable(path.as_bytes()).to_ascii_uppercase(),
        forms.normal(path.as_bytes()).to_ascii_uppercase()
    );
    Ok((text(forms.normal(path.as_bytes())), text(forms.forwarded(path.as_bytes()))))
}

/// Cases: path, normal form, forwarded form. They are the same for strict and lenient rules.
#[test]
fn what_goes_on_is_what_was_sent_without_dot_segments() {
    for (path, normal, forwarded) in [
        ("/", "/", "/"),
        ("*", "*", "*"),
        ("", "", ""),
        ("/a/b", "/a/b", "/a/b"),
        ("/a.b/c..d/...", "/a.b/c..d/...", "/a.b/c..d/..."),
        ("/a/../b", "/b", "/b"),
        ("/a/./b", "/a/b", "/a/b"),
        ("/a/..", "/", "/"),
        ("/a/b/..", "/a/", "/a/"),
        ("/a/.", "/a/", "/a/"),
        ("/a/%2E%2e/b", "/b", "/b"),
        ("/a/.%2e/b", "/b", "/b"),
        ("/a/..;/b", "/b", "/b"),
        ("/a/..;x=y/b", "/b", "/b"),
        ("/a/..%3Bx/b", "/b", "/b"),
        ("/a/.;/b", "/a/b", "/a/b"),
        ("/a//b", "/a/b", "/a//b"),
        ("/a//b/../c", "/a/c", "/a//c"),
        ("/a///", "/a/", "/a///"),
        ("//a", "/a", "//a"),
        ("/a/..//b", "/b", "//b"),
        ("/%61%62%7E", "/ab~", "/%61%62%7E"),
        ("/x/../%7ea//b%2f", "/~a/b%2F", "/%7ea//b%2f"),
        ("/caf%c3%a9", "/caf%C3%A9", "/caf%c3%a9"),
        ("/a%23b%3fc", "/a%23b%3Fc", "/a%23b%3fc"),
        ("/a%2Fb", "/a%2Fb", "/a%2Fb"),
        ("/a%252e", "/a%252e", "/a%252e"),
        ("/a/..b/.c", "/a/..b/.c", "/a/..b/.c"),
        ("/a/;x/b;y", "/a/;x/b;y", "/a/;x/b;y"),
        ("/a%20b%80", "/a%20b%80", "/a%20b%80"),
    ] {
        for rules in [STRICT, LENIENT] {
            assert_eq!(read(path, rules), Ok((normal.to_owned(), forwarded.to_owned())), "{path} {rules:?}");
        }
        let normalized = Ok((normal.to_owned(), normal.to_owned()));
        assert_eq!(read(path, Rules { normalize: true, ..STRICT }), normalized, "{path}");
    }
}

/// Cases: path, why strict rules refuse it, the forwarded form or the error of lenient rules.
#[test]
fn what_readers_understand_differently_is_refused_or_resolved_for_all() {
    for (path, strict, lenient) in [
        ("/a/../../b", AboveRoot, Err(AboveRoot)),
        ("/..", AboveRoot, Err(AboveRoot)),
        ("/../admin", AboveRoot, Err(AboveRoot)),
        ("/%2e%2e/b", AboveRoot, Err(AboveRoot)),
        ("//../b", AboveRoot, Err(AboveRoot)),
        ("/a//../../b", Ambiguous, Err(AboveRoot)),
        ("/a//../b", Ambiguous, Ok("/a/b")),
        ("/a/;x/../b", Ambiguous, Ok("/a/b")),
        ("/a/b%2fc/../d", Ambiguous, Ok("/a/d")),
        ("/a%2fb/../../c", Ambiguous, Err(AboveRoot)),
        ("/public/%/../../admin", BadPercent, Ok("/admin")),
        ("/public/%00/../../admin", EncodedNul, Ok("/admin")),
        ("/public/..\\admin", Backslash, Ok("/admin")),
        ("/public\\..\\..\\admin", Backslash, Err(AboveRoot)),
        ("/public/..%5Cadmin", Backslash, Ok("/admin")),
        ("/public/..%2fadmin", SlashEncoded, Ok("/admin")),
        ("/public/..%2f..%2fadmin", SlashEncoded, Err(AboveRoot)),
        ("/a/b%2F%2e%2e", SlashEncoded, Ok("/a/")),
        ("/a/b%2f.%2fc", SlashEncoded, Ok("/a/b%2fc")),
        ("/a/b%5c..\\c", Backslash, Ok("/a/c")),
        ("/a\\b", Backslash, Ok("/a\\b")),
        ("/a%5cb/./c", Backslash, Ok("/a%5cb/c")),
        ("/a%0d%0aHost:b", EncodedControl, Ok("/a%0d%0aHost:b")),
        ("/a%1F", EncodedControl, Ok("/a%1F")),
        ("/a%7f", EncodedControl, Ok("/a%7f")),
        ("/a/%u002e//%%32f", BadPercent, Ok("/a/%u002e//%%32f")),
        ("/a%zz", BadPercent, Ok("/a%zz")),
        ("/a%2", BadPercent, Ok("/a%2")),
        ("/a%", BadPercent, Ok("/a%")),
        ("a", NotAbsolute, Err(NotAbsolute)),
    ] {
        assert_eq!(read(path, STRICT), Err(strict), "{path}");
        let got = read(path, LENIENT).map(|(_, forwarded)| forwarded);
        assert_eq!(got.as_deref(), lenient.as_deref(), "{path}");
    }
}

#[test]
fn an_encoded_slash_is_what_the_listener_says() {
    for strict in [true, false] {
        let rules = |encoded_slash| Rules { encoded_slash, strict, normalize: false };
        let same = |text: &str| Ok((text.to_owned(), text.to_owned()));
        assert_eq!(read("/a%2Fb", rules(EncodedSlash::Keep)), same("/a%2Fb"));
        for path in ["/a%2fb", "/%2F", "/a/b/c%2f"] {
            assert_eq!(read(path, rules(EncodedSlash::Refuse)), Err(SlashEncoded), "{path}");
        }
        for (path, decoded) in [("/a%2fb%2F", "/a/b/"), ("/a/b%2f..%2fc", "/a/c"), ("/a%252f", "/a%252f")] {
            assert_eq!(read(path, rules(EncodedSlash::Decode)), same(decoded), "{path}");
        }
        assert_eq!(read("/a/..%2f..%2fb", rules(EncodedSlash::Decode)), Err(AboveRoot));
    }
}

#[test]
fn a_backslash_has_two_readings() {
    for (path, normal, slashed) in [
        ("/admin\\x", "/admin\\x", Some("/admin/x")),
        ("/a%5c/\\b", "/a%5C/\\b", Some("/a/b")),
        ("/a/b\\../c", "/a/c", None),
        ("/a/%", "/a/%", None),
        ("/a", "/a", None),
    ] {
        let mut forms = Forms::with_capacity(0);
        forms.read(path.as_bytes(), LENIENT).unwrap();
        assert_eq!(forms.normal(path.as_bytes()), normal.as_bytes(), "{path}");
        assert_eq!(forms.slashed(), slashed.map(str::as_bytes), "{path}");
    }
}

#[test]
fn the_longest_path_costs_no_more_than_its_length() {
    for (name, up, normal) in [
        ("a/", "../", Ok("/")),
        ("a%2f/", "../", Ok("/")),
        ("%2f", "../", Err(AboveRoot)),
        ("a%2f", "..%2f", Err(AboveRoot)),
        ("/", "../", Err(AboveRoot)),
    ] {
        let path = format!("/{}{}", name.repeat(1300), up.repeat(1300));
        assert_eq!(read(&path, LENIENT).map(|(normal, _)| normal).as_deref(), normal.as_deref(), "{name}");
    }
}

/// How an origin resolves a path: the path that it looks up, or None if that leads above the root.
type Reader = fn(&str) -> Option<String>;

/// RFC 3986: section 6.2.2.2, then remove_dot_segments of section 5.2.4, step by step.
fn rfc3986(path: &str) -> Option<String> {
    let mut input = path.replace("%2e", ".").replace("%2E", ".");
    let mut output = String::new();
    let mut above = false;
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix("/./") {
            input = format!("/{rest}");
        } else if input == "/." {
            input = "/".to_owned();
        } else if let Some(rest) = input.strip_prefix("/../").map(str::to_owned).or((input == "/..").then(String::new))
        {
            input = format!("/{rest}");
            above |= output.is_empty();
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.drain(..end);
        }
    }
    (!above).then_some(output)
}

/// The path state of a special URL (url.spec.whatwg.org/#path-state).
fn whatwg(path: &str) -> Option<String> {
    let mut list: Vec<&str> = Vec::new();
    let mut above = false;
    let segments: Vec<_> = path[1..].split(['/', '\\']).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match segment.replace("%2e", ".").replace("%2E", ".").as_str() {
            ".." => {
                above |= list.pop().is_none();
                if last {
                    list.push("");
                }
            }
            "." if last => list.push(""),
            "." => {}
            _ => list.push(segment),
        }
    }
    (!above).then(|| format!("/{}", list.join("/")))
}

fn decoded(path: &str) -> String {
    let unit = |unit| match unit {
        Unit::Byte(byte) | Unit::Encoded(_, byte) => char::from(byte),
        Unit::Broken => '%',
    };
    units(path.as_bytes()).map(unit).collect()
}

/// Slashes merged, then dots resolved.
fn merged(path: &str) -> Option<String> {
    let mut list: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." => {}
            ".." => drop(list.pop()?),
            _ => list.push(segment),
        }
    }
    let slash = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) && !list.is_empty();
    Some(format!("/{}{}", list.join("/"), if slash { "/" } else { "" }))
}

/// Decodes, then resolves, as nginx.
fn decodes(path: &str) -> Option<String> {
    merged(&decoded(path))
}

/// The same without merging.
fn decodes_alone(path: &str) -> Option<String> {
    rfc3986(&decoded(path))
}

/// Removes parameters, decodes, treats backslashes as slashes and resolves, as Tomcat does if all of that is enabled.
fn cuts(path: &str) -> Option<String> {
    let plain: Vec<_> = path.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    merged(&decoded(&plain.join("/")).replace('\\', "/"))
}

const READERS: [(&str, Reader); 5] =
    [("rfc3986", rfc3986), ("whatwg", whatwg), ("decodes", decodes), ("decodes_alone", decodes_alone), ("cuts", cuts)];
const TOKENS: [&str; 13] = ["/", "/", "..", ".", "x", "%2e", "%2E.", "\\", "%5c", "%2F", ";", "%", "%00"];

/// A form that is equal for paths that differ only by decoding, merging and backslashes.
fn leveled(path: &str) -> String {
    let mut text = decoded(path).replace('\\', "/");
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    text
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What an origin has to look up for a path whose normal form is `normal`: that form, without parameters if the origin removes them.
fn looked_up(name: &str, normal: &str) -> String {
    leveled(&if name == "cuts" { cuts(normal).unwrap() } else { normal.to_owned() })
}

/// Every origin serves the path that was routed.
fn check_lenient(path: &str, forms: &mut Forms) {
    let above = READERS.iter().any(|(_, reader)| reader(path).is_none());
    if let Err(error) = forms.read(path.as_bytes(), LENIENT) {
        // The path may lead above the root for an origin that is not among the readers, by other separators.
        assert!(error == AboveRoot && (above || path.contains(['\\', '%', ';'])), "{path} {error:?}");
        return;
    }
    assert!(!above, "{path} is accepted, though it leads above the root for some");
    let normal = text(forms.normal(path.as_bytes()));
    let forwarded = text(forms.forwarded(path.as_bytes()));
    for (name, reader) in READERS {
        let served = reader(&forwarded).unwrap_or_else(|| panic!("{path}: {forwarded} leads above the root"));
        assert_eq!(leveled(&served), looked_up(name, &normal), "{name}: {path} -> {forwarded}, routed {normal}");
    }
    // No dot segment is left, and nothing else was changed.
    assert_eq!(rfc3986(&forwarded).unwrap(), forwarded.replace("%2e", ".").replace("%2E", "."), "{path}");
    assert!(forms.slashed().is_none_or(|slashed| !slashed.contains(&b'\\')), "{path}");
    forms.read(forwarded.as_bytes(), LENIENT).unwrap();
    let again = (text(forms.normal(forwarded.as_bytes())), text(forms.forwarded(forwarded.as_bytes())));
    assert_eq!(again, (normal, forwarded), "{path}");
}

/// A path that strict rules accept means the same to all origins, apart from parameters of dot segments.
fn check_strict(path: &str, forms: &mut Forms) {
    if forms.read(path.as_bytes(), STRICT).is_err() {
        return;
    }
    let normal = text(forms.normal(path.as_bytes()));
    for (name, reader) in READERS.into_iter().filter(|(name, _)| *name == "cuts" || !path.contains(';')) {
        let served = reader(path).unwrap_or_else(|| panic!("{path} leads above the root for some"));
        assert_eq!(leveled(&served), looked_up(name, &normal), "{name}: {path}");
    }
}

#[test]
fn every_short_path_means_the_same_to_all() {
    let mut forms = Forms::with_capacity(64);
    for count in 1..=4_u32 {
        for number in 0..TOKENS.len().pow(count) {
            let token = |digit| TOKENS[number / TOKENS.len().pow(digit) % TOKENS.len()];
            let path = format!("/{}", (0..count).map(token).collect::<String>());
            check_lenient(&path, &mut forms);
            check_strict(&path, &mut forms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_paths_mean_the_same_to_all(tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 5..16)) {
        let path = format!("/{}", tokens.concat());
        let mut forms = Forms::with_capacity(64);
        check_lenient(&path, &mut forms);
        check_strict(&path, &mut forms);
    }
}
