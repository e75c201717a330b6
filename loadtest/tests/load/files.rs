//! What a run leaves behind: seconds, a log, a page.

use std::fs;
use std::process::Stdio;

use crate::harness::{Origin, command, read_report};

#[test]
fn the_seconds_add_up_to_the_run_in_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let (log, page) = (folder.path().join("run.hlog"), folder.path().join("run.html"));
    let origin = Origin::start(&[]);
    let mut run = command(&[
        "run",
        &origin.url,
        "--json",
        "--rate",
        "300",
        "-d",
        "2200ms",
        "--warmup",
        "300ms",
        "--threads",
        "2",
    ]);
    let report = read_report(&run.arg("--hdr").arg(&log).arg("--html").arg(&page).output().unwrap());
    let seconds = report["seconds"].as_array().unwrap();
    let sum = |name: &str| seconds.iter().map(|second| second[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("answered"), sum("errors")), (report["answered"].as_u64().unwrap(), 0), "{report}");
    assert!(seconds.len() >= 3 && seconds[1]["p50_us"].as_f64() <= seconds[1]["max_us"].as_f64(), "{report}");

    let log = fs::read_to_string(log).unwrap();
    let intervals = log.lines().filter(|line| !line.starts_with('#') && !line.starts_with('"'));
    assert_eq!(intervals.clone().count(), seconds.len(), "{log}");
    assert!(intervals.clone().all(|line| line.contains(",1.000,") && line.contains(",HIST")), "{log}");

    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg ").count(), 3);
    assert!(page.contains("99.9 %") || report["answered"].as_u64().unwrap() < 500, "{page}");
    for part in
        [" UTC; ", "300.0/s due", "s sent\n", "(from when a request was due until it was sent", "class=\"line c\""]
    {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert_eq!(report["due_per_second"], (report["sent"].as_f64().unwrap() + report["unsent"].as_f64().unwrap()) / 2.2);
    assert!(report["machine"]["cpus"].as_u64() >= Some(1) && report["date"].as_str().unwrap().ends_with(" UTC"));
    assert!(!page.contains("overflow-x"), "a scrollbar would cover the last line");
    assert!(!page.contains("src=") && !page.contains("href="), "the page needs nothing else");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let origin = Origin::start(&[]);
    let output = command(&["run", &origin.url, "-n", "1", "--html", "/nonexistent/run.html"]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("cannot write /nonexistent/run.html") && complaint.lines().count() == 1, "{complaint}");
    assert_eq!(output.status.code(), Some(1));
}

/// A report that is lost is a failure, and a reader that has read enough is none.
#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let origin = Origin::start(&[]);
    let to = |stdout: Stdio| command(&["run", &origin.url, "-n", "1"]).stdout(stdout).output().unwrap();
    let full = to(fs::File::options().write(true).open("/dev/full").unwrap().into());
    let why = "cairn-load: cannot write to standard output: No space left on device (os error 28)\n";
    assert_eq!((full.status.code(), String::from_utf8_lossy(&full.stderr)), (Some(1), why.into()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = to(writer.into());
    assert_eq!((closed.status.code(), String::from_utf8_lossy(&closed.stderr)), (Some(0), "".into()));
}
