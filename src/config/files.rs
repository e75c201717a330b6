//! Reads configuration files and parses their TOML. Not here: what is in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::check;
use super::report::{Place, Problems, Report, Source};
use super::schema::{Kind, ROOT};
use super::section::Section;

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One file as TOML.
pub(super) type Parsed<'a> = Spanned<DeTable<'a>>;

/// Reads `path`, or `path/cairn.toml` and then `path/conf.d/*.toml` by name. Notes in `files` what it looked at.
pub(super) fn read(path: &Path, files: &mut Vec<PathBuf>) -> Result<Vec<Source>, Report> {
    let refuse = |path: &Path, error: io::Error| (path.display().to_string(), error.to_string());
    let paths = match list(path, files) {
        Ok(paths) => paths,
        Err((path, error)) => return Err(Report::unreadable(vec![refuse(&path, error)])),
    };
    files.extend_from_slice(&paths);
    let mut sources = Vec::with_capacity(paths.len());
    let mut unreadable = Vec::new();
    for path in &paths {
        match text(path) {
            Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
            Err(error) => unreadable.push(refuse(path, error)),
        }
    }
    if unreadable.is_empty() { Ok(sources) } else { Err(Report::unreadable(unreadable)) }
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let parts = path.join("conf.d");
    files.extend([path.to_owned(), parts.clone()]);
    let mut paths = Vec::new();
    if parts.exists() {
        let entries = fs::read_dir(&parts).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| (parts, error))?;
        paths.extend(
            entries.into_iter().map(|entry| entry.path()).filter(|path| path.extension() == Some("toml".as_ref())),
        );
    }
    paths.sort();
    paths.insert(0, path.join("cairn.toml"));
    Ok(paths)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The TOML of every file; reports every error of syntax.
pub(super) fn parse<'a>(sources: &'a [Source], problems: &mut Problems) -> Vec<Parsed<'a>> {
    let mut parsed = Vec::with_capacity(sources.len());
    for (file, source) in sources.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            problems
                .add(Place { file, start: span.start, end: span.end }, error.message().to_owned())
                .help("the syntax is that of toml.io; other problems show when it is right");
        }
        parsed.push(table);
    }
    parsed
}

/// Checks every file against the schema. Keys that are not arrays of tables belong in the first.
pub(super) fn check<'a>(parsed: &'a [Parsed<'a>], problems: &mut Problems) -> Vec<Section<'a>> {
    let mut roots = Vec::with_capacity(parsed.len());
    for (file, document) in parsed.iter().enumerate() {
        let table = document.get_ref();
        let at = Place { file, start: 0, end: 0 };
        check::table(file, at, table, &ROOT, problems);
        for name in table.keys().filter(|_| file > 0) {
            if ROOT.key(name.get_ref()).is_some_and(|key| !matches!(key.kind, Kind::Many(_))) {
                problems
                    .add(check::place(file, name), format!("`{}` stands in a part of a configuration", name.get_ref()))
                    .help("move it to cairn.toml; files in conf.d hold listeners, routes and clusters");
            }
        }
        roots.push(Section::new(file, at, table, &ROOT));
    }
    roots
}
