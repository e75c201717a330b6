//! `cairn top`: what a running cairn does, live in a terminal, or once as plain tables. Not here: what is counted (`cairn::control`).

mod draw;
mod screen;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use cairn::config;
use cairn::control::Top;
use cairn::observer::Story;
use hyper::{Method, StatusCode};
use ratatui::crossterm::event::{self, Event};

use super::remote::{Target, ask, follow, taken};
use super::{fail, print, print_document};
use screen::{Next, Screen};
use tables::{Table, View, summary};

/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(50);
/// How long it waits before it asks again a process that does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Recent requests that are shown.
const REQUESTS: usize = 200;

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(super) struct TopArguments {
    #[command(flatten)]
    target: Target,
    /// Print tables once, of the time of one interval, and end; so it does where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// Time between two looks, from 100ms to 1m
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let known = config::duration(text).filter(|time| (100..=60_000).contains(&time.as_millis()));
    known.ok_or_else(|| "write \"500ms\" or \"2s\", from 100ms to 1m".to_owned())
}

/// What the threads that ask have found out.
enum News {
    Top(Box<Top>),
    Requests(Vec<Story>),
    /// Why there is no answer.
    Problem(String),
}

/// Success if the process answers, until the user ends it.
pub(super) fn top(arguments: &TopArguments) -> ExitCode {
    let TopArguments { target, once, interval } = arguments;
    let query = format!("interval_ms={}", interval.as_millis());
    if *once || target.json() || !io::stdout().is_terminal() {
        return print_once(target, &query);
    }
    let (sender, news) = channel();
    let (other, others) = (sender.clone(), target.clone());
    let own = target.clone();
    // Both end with the process.
    thread::spawn(move || follow_top(&own, &query, &sender));
    let wait = *interval;
    thread::spawn(move || {
        while other.send(requests(&others)).is_ok() {
            rest(wait);
        }
    });
    let shown = ratatui::try_init().and_then(|mut terminal| show(&mut terminal, &news));
    ratatui::restore();
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cairn: the terminal cannot be used: {error}; --once prints tables\n")),
    }
}

/// Shows news until the user has seen enough.
fn show(terminal: &mut ratatui::DefaultTerminal, news: &Receiver<News>) -> io::Result<()> {
    let mut screen = Screen::default();
    let mut is_new = true;
    loop {
        for news in news.try_iter() {
            is_new = true;
            match news {
                News::Top(top) => screen.update(*top),
                News::Requests(requests) => screen.update_requests(requests),
                News::Problem(problem) => screen.fail(problem),
            }
        }
        if is_new {
            terminal.draw(|frame| draw::draw(frame, &mut screen))?;
        }
        is_new = event::poll(KEYS)?;
        if is_new
            && let Event::Key(key) = event::read()?
            && screen.press(key) == Next::End
        {
            return Ok(());
        }
    }
}

/// Lets time pass between two questions.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to wait for")]
fn rest(time: Duration) {
    thread::sleep(time);
}

/// Tells of each look, for as long as anybody listens.
fn follow_top(target: &Target, query: &str, news: &Sender<News>) {
    loop {
        let take = |line: &[u8]| {
            let Some(top) = line.strip_prefix(b"data: ").and_then(|json| serde_json::from_slice(json).ok()) else {
                return Ok(());
            };
            news.send(News::Top(top)).map_err(io::Error::other)
        };
        let problem = match follow(target, &target.naming(&format!("/top/events?{query}")), take) {
            Err(problem) => problem,
            Ok(Err(_)) => return,
            Ok(Ok(())) => "the process has ended".to_owned(),
        };
        if news.send(News::Problem(problem)).is_err() {
            return;
        }
        rest(AGAIN);
    }
}

/// Asks for the last requests that have failed or were slow. Who cannot be asked is a problem of the one that follows.
fn requests(target: &Target) -> News {
    let stories = match ask(target, Method::GET, &target.naming(&format!("/recent?limit={REQUESTS}"))) {
        Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).unwrap_or_default(),
        _ => Vec::new(),
    };
    News::Requests(stories)
}

fn print_once(target: &Target, query: &str) -> ExitCode {
    let body = match taken(target, Method::GET, &target.naming(&format!("/top?{query}"))) {
        Ok(body) => body,
        Err(code) => return code,
    };
    if target.json() {
        return print_document(&format!("{}\n", String::from_utf8_lossy(&body)), ExitCode::SUCCESS);
    }
    let top: Top = match serde_json::from_slice(&body) {
        Ok(top) => top,
        Err(error) => return fail(&format!("cairn: the process answers something else: {error}\n")),
    };
    let News::Requests(requests) = requests(target) else { return ExitCode::FAILURE };
    print(&plain(&top, &requests), ExitCode::SUCCESS)
}

/// All tables as text.
fn plain(top: &Top, requests: &[Story]) -> String {
    let mut text = format!("{}\n", summary(top));
    for view in View::ALL {
        let mut table = Table::of(view, top, requests);
        let (column, descending) = view.order();
        table.sort(column, descending);
        if !table.rows.is_empty() {
            let (title, lines) = (view.title(), table.lines().join("\n"));
            // Writing to memory does not fail.
            let _ = write!(text, "\n{title}\n{lines}\n");
        }
    }
    text
}
