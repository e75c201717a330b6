//! Reads the vector files: where they are and what bytes their blocks stand for. It does not know what is expected.

use std::path::{Path, PathBuf};

/// All vector files, in order.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), &mut files);
    assert!(!files.is_empty(), "no vectors found");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            files.push(path);
        }
    }
}

/// The bytes of a block.
pub(crate) fn unescape(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        let (mut rest, end) = match line.strip_suffix('\\') {
            Some(rest) => (rest, ""),
            None => (*line, "\r\n"),
        };
        while let Some((plain, escape)) = rest.split_once('\\') {
            out.extend_from_slice(plain.as_bytes());
            let (byte, used) = match escape.as_bytes() {
                [b'r', ..] => (b'\r', 1),
                [b'n', ..] => (b'\n', 1),
                [b't', ..] => (b'\t', 1),
                [b'\\', ..] => (b'\\', 1),
                [b'x', ..] => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
                [b'{', byte, b'*', ..] => {
                    let end = escape.find('}').unwrap();
                    let count: usize = escape[3..end].parse().unwrap();
                    out.resize(out.len() + count - 1, *byte);
                    (*byte, end + 1)
                }
                _ => panic!("unknown escape in `{line}`"),
            };
            out.push(byte);
            rest = &escape[used..];
        }
        out.extend_from_slice(rest.as_bytes());
        out.extend_from_slice(end.as_bytes());
    }
    out
}
