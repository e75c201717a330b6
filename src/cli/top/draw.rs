//! How the screen of `cairn top` is drawn. Not here: what is on it (`screen`).

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table as TableWidget, Tabs, Wrap};

use super::screen::{Over, Screen};
use super::tables::{Table, View, summary};

const HELP: [&str; 12] = [
    "1 … 6, Tab    another table",
    "↑ ↓ PgUp PgDn a row; also k, j, Home, End",
    "Enter         details of the row, and back",
    "← →           sort by another column; also <, >",
    "r             the other way round",
    "/             show only rows with a text; Enter keeps it, Esc ends it",
    "p, space      pause, and go on",
    "Esc           back; without anything to go back from: all rows",
    "?             this help",
    "q, ^C         end",
    "",
    "Red is what fails: errors, endpoints without traffic, workers that are busy.",
];
/// Widest first column.
const NAME_WIDTH: usize = 48;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [head, rates, tabs, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, screen);
    let width = usize::from(rates.width);
    let history: Vec<u64> = screen.history.iter().rev().take(width).rev().copied().collect();
    frame.render_widget(Sparkline::default().data(history).style(Style::new().fg(Color::Cyan)), rates);
    let titles = View::ALL.iter().enumerate().map(|(at, view)| format!("{} {}", at + 1, view.title()));
    let tabs_widget = Tabs::new(titles).select(screen.view as usize).highlight_style(Style::new().reversed());
    frame.render_widget(tabs_widget, tabs);
    match screen.table() {
        None => frame.render_widget(Paragraph::new("waiting for the first look").alignment(Alignment::Center), body),
        Some(table) => draw_body(frame, body, screen, &table),
    }
    draw_foot(frame, foot, screen);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let text = screen.top.as_ref().map_or("cairn top\n".to_owned(), summary);
    let mut lines: Vec<Line<'_>> = text.lines().map(Line::from).collect();
    if let Some(first) = lines.first_mut() {
        *first = first.clone().bold();
        if screen.paused {
            first.push_span(Span::raw(" · paused").fg(Color::Yellow));
        }
    }
    if let Some(problem) = &screen.problem {
        lines = vec![lines.swap_remove(0), Line::raw(format!("no answer: {}", problem.trim_end())).fg(Color::Red)];
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_body(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, table: &Table) {
    match screen.over {
        Over::Details(from) => {
            let lines: Vec<Line<'_>> = screen.details(table).into_iter().map(Line::from).collect();
            let block = Block::bordered().title(" details · Enter: back ");
            frame.render_widget(Paragraph::new(lines).block(block).scroll((from, 0)), area);
        }
        Over::Nothing | Over::Help => draw_table(frame, area, screen, table),
    }
    if screen.over == Over::Help {
        let place = area.centered(Constraint::Max(74), Constraint::Max(HELP.len() as u16 + 2));
        frame.render_widget(Clear, place);
        let help = Text::from(HELP.map(Line::from).to_vec());
        frame.render_widget(Paragraph::new(help).block(Block::bordered().title(" keys ")).wrap(Wrap::default()), place);
    }
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, table: &Table) {
    let (sorted, descending) = screen.order();
    let align = |at: usize| if table.is_number(at) { Alignment::Right } else { Alignment::Left };
    let title = |(at, name): (usize, &&'static str)| {
        let mark = match (at == sorted, descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        Text::from(format!("{name}{mark}")).alignment(align(at))
    };
    let head = Row::new(table.columns.iter().enumerate().map(title)).style(Style::new().bold().underlined());
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().enumerate();
        let cells = cells.map(|(at, cell)| Text::from(cell.text.as_str()).alignment(align(at)));
        Row::new(cells).style(if row.alarm { Style::new().fg(Color::Red) } else { Style::new() })
    });
    // One more for the mark of the order.
    let widths = table.widths().into_iter().map(|width| Constraint::Length((width + 1).min(NAME_WIDTH) as u16));
    let widget =
        TableWidget::new(rows, widths).header(head).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(widget, area, &mut screen.state);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let line = match (screen.typing, screen.filter.as_str()) {
        (true, text) => Line::from(format!("/{text}▏")).fg(Color::Yellow),
        (false, "") => {
            Line::from("Tab table · ↑↓ row · Enter details · ←→ sort · r reverse · / filter · p pause · ? help · q end")
        }
        (false, text) => Line::from(format!("only rows with \"{text}\" · Esc: all · ? help · q end")).fg(Color::Yellow),
    };
    frame.render_widget(Paragraph::new(line), area);
}
