//! Reads configuration files and parses their TOML. Not here: their meaning.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::budget::Budget;
use super::external::{self, External, text};
use super::file_stamps::{self, FileStamps, LookupPath};
use super::reference::{self, Reference};
use super::report::{Problems, Report, Source, SourceSpan};
use super::schema::{Kind, Table};
use super::section::Section;
use super::tables::ROOT;
use super::{Role, check};

/// Largest file, bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One file as TOML.
#[derive(Debug)]
pub(super) struct Document<'a> {
    file: usize,
    /// Directory to which paths in the file are relative.
    pub(super) directory: &'a Path,
    /// Role that determines defaults.
    pub(super) role: Role,
    pub(super) table: DeTable<'a>,
    /// The replaced references, in file order.
    pub(super) references: Vec<Reference>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(file: usize, source: &'a Source, problems: &mut Problems) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            problems
                .add(SourceSpan { file, start: span.start, end: span.end }, error.message().to_owned())
                .help("the syntax is that of toml.io; other problems show when it is right");
        }
        Self {
            file,
            table: table.into_inner(),
            references: Vec::new(),
            directory: source.directory(),
            role: Role::default(),
        }
    }

    /// Replaces every reference by its value, within `budget` if there is one. Reports references that have no value.
    pub(super) fn replace_references(
        &mut self,
        external: &mut External,
        budget: Option<&Budget>,
        problems: &mut Problems,
    ) {
        let external = (external, budget);
        self.references = reference::replace(self.file, &mut self.table, self.directory, external, problems);
    }

    /// The beginning of the file.
    pub(super) fn at(&self) -> SourceSpan {
        SourceSpan { file: self.file, start: 0, end: 0 }
    }

    /// The whole file as a section.
    pub(super) fn section(&'a self, schema: &'static Table) -> Section<'a> {
        Section::new(self, self.at(), &self.table, schema)
    }

    pub(super) fn span<T>(&self, node: &Spanned<T>) -> SourceSpan {
        SourceSpan::of(self.file, node)
    }

    /// The reference from which the value at `at` comes, as it is written; None: the value is no reference.
    pub(super) fn written(&self, at: SourceSpan) -> Option<&str> {
        let known = self.references.binary_search_by_key(&at.start, |reference| reference.start).ok()?;
        self.references.get(known).map(|reference| reference.written.as_str())
    }
}

/// Reads `path`, or `path/cairn.toml` and then `path/conf.d/*.toml` by name. Stamps every path that it reads.
pub(super) fn read(path: &Path, file_stamps: &mut FileStamps) -> Result<Vec<Source>, Report> {
    let refuse = |path: &Path, error: io::Error| (path.display().to_string(), error.to_string());
    let paths = match list(path, file_stamps) {
        Ok(paths) => paths,
        Err((path, error)) => return Err(Report::unreadable(vec![refuse(&path, error)])),
    };
    let mut sources = Vec::with_capacity(paths.len());
    let mut unreadable = Vec::new();
    for path in &paths {
        file_stamps.note(LookupPath::anywhere(path.clone()));
        match external::open(path).and_then(|file| text(file, FILE_BYTES_MAX)) {
            Ok(text) => sources.push(Source::new(&path.display().to_string(), &text)),
            Err(error) => unreadable.push(refuse(path, error)),
        }
    }
    if unreadable.is_empty() { Ok(sources) } else { Err(Report::unreadable(unreadable)) }
}

fn list(path: &Path, noted: &mut FileStamps) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let parts = path.join("conf.d");
    noted.note(LookupPath::anywhere(path.to_owned()));
    noted.note(LookupPath::anywhere(parts.clone()));
    let mut paths = Vec::new();
    if parts.exists() {
        let entries = fs::read_dir(&parts).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| (parts, error))?;
        paths.extend(entries.into_iter().map(|entry| entry.path()).filter(|path| file_stamps::is_part(path)));
    }
    paths.sort();
    paths.insert(0, path.join("cairn.toml"));
    Ok(paths)
}

/// The TOML of every file; reports every error of syntax.
pub(super) fn parse<'a>(sources: &'a [Source], problems: &mut Problems) -> Vec<Document<'a>> {
    sources.iter().enumerate().map(|(file, source)| Document::parse(file, source, problems)).collect()
}

/// The role that the first file sets, or the default.
pub(super) fn role(documents: &[Document<'_>]) -> Role {
    let role = documents.first().and_then(|first| first.table.get("role")?.get_ref().as_str());
    match role {
        Some("waypoint") => Role::Waypoint,
        Some("sidecar") => Role::Sidecar,
        _ => Role::Edge,
    }
}

/// Checks every file against the schema. Keys that are not arrays of tables are allowed in the first file only.
pub(super) fn check<'a>(documents: &'a [Document<'a>], problems: &mut Problems) -> Vec<Section<'a>> {
    let mut roots = Vec::with_capacity(documents.len());
    for (file, document) in documents.iter().enumerate() {
        check::document(document, &ROOT, problems);
        for name in document.table.keys().filter(|_| file > 0) {
            if ROOT.key(name.get_ref()).is_some_and(|key| !matches!(key.kind, Kind::Many(_))) {
                problems
                    .add(document.span(name), format!("`{}` stands in a part of a configuration", name.get_ref()))
                    .help(
                        "move it to cairn.toml; files in conf.d hold listeners, routes, groups, clusters and tenants",
                    );
            }
        }
        roots.push(document.section(&ROOT));
    }
    roots
}
