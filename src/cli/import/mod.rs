//! `cairn import`: the configuration of another proxy as cairn's. It makes text and nothing else. Not here: the meaning of cairn's own
//! keys (`config`).

mod expression;
mod files;
mod from_haproxy;
mod from_nginx;
mod haproxy;
mod matching;
mod nginx;
mod output;
mod routes;
mod rules;
mod valid;
mod words;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cairn::config::{Problems, Report};
use clap::ValueEnum;

use files::{Files, Reader};

use super::{fail, print_document};

/// What `import` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// nginx.conf or haproxy.cfg
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose configuration it is, if its text does not tell
    #[arg(long, value_name = "PROXY")]
    from: Option<Proxy>,
}

/// A proxy whose configuration can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proxy {
    Nginx,
    Haproxy,
}

/// An import: the document, and what is said of it.
struct Import {
    document: String,
    summary: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match import(&arguments.file, arguments.from, files::read_plain) {
        Ok(import) => {
            // The document matters; a summary that nobody reads does not.
            let _ = io::stderr().lock().write_all(cairn::printable::printable_lines(&import.summary).as_bytes());
            print_document(&import.document, ExitCode::SUCCESS)
        }
        Err(report) => fail(&report.to_string()),
    }
}

fn import(path: &Path, from: Option<Proxy>, reader: Reader) -> Result<Import, Report> {
    let mut files = Files::new(reader);
    let name = path.display().to_string();
    let file = match files.read(path) {
        Ok(file) => file,
        Err(error) => return Err(Report::unreadable(vec![(name, error.to_string())])),
    };
    imported(files, file, path, from)
}

/// Imports a file that has been read.
fn imported(mut files: Files, file: usize, path: &Path, from: Option<Proxy>) -> Result<Import, Report> {
    let name = path.display().to_string();
    let mut problems = Problems::default();
    if is_blank(files.text(file)) {
        let why =
            "there is nothing in it to import: neither a `server` of nginx nor a `frontend` or `listen` of HAProxy";
        return Err(Report::unreadable(vec![(name, why.to_owned())]));
    }
    let from = from.unwrap_or_else(|| told(files.text(file)));
    let (document, summary) = match from {
        Proxy::Nginx => {
            let folder = path.parent().unwrap_or(Path::new(""));
            let directives = nginx::parse(&mut files, file, folder, &mut problems);
            if !problems.is_empty() {
                return Err(Report::new(&files.sources, problems));
            }
            let (plan, notes, total) = from_nginx::translate(&files, &directives);
            (notes.document(&plan.blocks()), notes.summary(&name, total, plan.missing("`server` with `listen`")))
        }
        Proxy::Haproxy => {
            let sections = haproxy::parse(&files, file, &mut problems);
            if !problems.is_empty() {
                return Err(Report::new(&files.sources, problems));
            }
            let (plan, notes, total) = from_haproxy::translate(&files, &sections);
            let missing = plan.missing("`frontend` or `listen` with `bind`");
            (notes.document(&plan.blocks()), notes.summary(&name, total, missing))
        }
    };
    Ok(Import { document, summary })
}

/// Whether there is nothing but comments in a text.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.split('#').next().is_none_or(|line| line.trim().is_empty()))
}

/// Whose configuration a text is: HAProxy's begins with a section, in a line of its own.
fn told(text: &str) -> Proxy {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let first =
        lines.filter(|line| !line.is_empty()).find_map(|line| line.split_whitespace().next().map(|word| (word, line)));
    match first {
        Some((word, line)) if haproxy::is_section(word) && !line.contains(['{', ';']) => Proxy::Haproxy,
        _ => Proxy::Nginx,
    }
}
