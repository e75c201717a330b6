//! What the screen of `cairn top` shows: which table, in which order, which of its rows; and what keys change of it. Not here: how it is
//! drawn (`draw`).

use std::collections::VecDeque;

use cairn::control::Top;
use cairn::observer::Story;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use super::tables::{Table, View};

/// Looks of which the rate of requests is kept.
const HISTORY: usize = 240;
/// Rows of a page.
const PAGE: isize = 10;

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    End,
}

/// What is above the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Over {
    #[default]
    Nothing,
    /// What the keys do.
    Help,
    /// The details of the selected row, from this line on.
    Details(u16),
}

/// All that is shown.
pub(super) struct Screen {
    pub(super) view: View,
    pub(super) over: Over,
    pub(super) top: Option<Top>,
    pub(super) requests: Vec<Story>,
    /// Requests a second, of the last looks.
    pub(super) history: VecDeque<u64>,
    pub(super) paused: bool,
    /// Only rows with this text.
    pub(super) filter: String,
    /// Whether keys are text of the filter.
    pub(super) typing: bool,
    /// Why there is no answer; None: there is one.
    pub(super) problem: Option<String>,
    /// By view: column, and whether the greatest comes first.
    orders: [(usize, bool); View::ALL.len()],
    /// The selected row.
    selected: Option<String>,
    /// Where the table stands.
    pub(super) state: TableState,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            view: View::default(),
            over: Over::default(),
            top: None,
            requests: Vec::new(),
            history: VecDeque::new(),
            paused: false,
            filter: String::new(),
            typing: false,
            problem: None,
            orders: View::ALL.map(View::order),
            selected: None,
            state: TableState::default(),
        }
    }
}

impl Screen {
    /// Takes in another look, unless it is paused.
    pub(super) fn update(&mut self, top: Top) {
        self.problem = None;
        if self.paused {
            return;
        }
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(top.total.requests_per_second as u64);
        self.top = Some(top);
    }

    /// Takes in the last requests, unless it is paused.
    pub(super) fn update_requests(&mut self, requests: Vec<Story>) {
        if !self.paused {
            self.requests = requests;
        }
    }

    /// Notes that there is no answer.
    pub(super) fn fail(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// Column and direction of the table's order.
    pub(super) fn order(&self) -> (usize, bool) {
        self.orders[self.view as usize]
    }

    /// The table as it is shown. Selects the row that was selected, or the one in its place.
    pub(super) fn table(&mut self) -> Option<Table> {
        let mut table = Table::of(self.view, self.top.as_ref()?, &self.requests);
        let (column, descending) = self.order();
        table.sort(column, descending);
        table.filter(&self.filter);
        let kept = self.selected.as_ref().and_then(|key| table.rows.iter().position(|row| row.key == *key));
        let last = table.rows.len().checked_sub(1);
        let position = kept.or(self.state.selected()).unwrap_or(0);
        self.state.select(last.map(|last| position.min(last)));
        self.selected = self.state.selected().and_then(|at| table.rows.get(at)).map(|row| row.key.clone());
        Some(table)
    }

    /// Follows a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Go;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Next::End;
        }
        if self.typing {
            self.type_filter(key.code);
            return Next::Go;
        }
        match key.code {
            KeyCode::Char('q') => return Next::End,
            KeyCode::Esc if self.over != Over::Nothing => self.over = Over::Nothing,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.over = if self.over == Over::Help { Over::Nothing } else { Over::Help },
            KeyCode::Enter => {
                let open = matches!(self.over, Over::Details(_)) || self.selected.is_none();
                self.over = if open { Over::Nothing } else { Over::Details(0) };
            }
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('r') => self.orders[self.view as usize].1 ^= true,
            KeyCode::Char('s' | '>') | KeyCode::Right => self.sort_by(1),
            KeyCode::Char('S' | '<') | KeyCode::Left => self.sort_by(self.view.columns().len() - 1),
            KeyCode::Tab => self.show(View::at(self.view as usize + 1)),
            KeyCode::BackTab => self.show(View::at(self.view as usize + View::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='6') => self.show(View::at(digit as usize - '1' as usize)),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home => self.go(isize::MIN / 2),
            KeyCode::End => self.go(isize::MAX / 2),
            _ => {}
        }
        Next::Go
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
    }

    /// Sorts by the column so many to the right.
    fn sort_by(&mut self, steps: usize) {
        let (column, _) = self.order();
        let column = (column + steps) % self.view.columns().len();
        let numbers = self.table().is_some_and(|table| table.is_number(column));
        self.orders[self.view as usize] = (column, numbers);
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.over = Over::Nothing;
        self.selected = None;
        self.state = TableState::default();
    }

    /// Selects the row so many below; scrolls where details are shown.
    fn go(&mut self, rows: isize) {
        if let Over::Details(line) = &mut self.over {
            let lines = i32::try_from(rows).unwrap_or(if rows < 0 { i32::MIN } else { i32::MAX });
            *line = u16::try_from(i32::from(*line).saturating_add(lines).clamp(0, 1000)).unwrap_or(0);
            return;
        }
        let Some(table) = self.table() else { return };
        let Some(at) = self.state.selected() else { return };
        let position = at.saturating_add_signed(rows).min(table.rows.len().saturating_sub(1));
        self.state.select(Some(position));
        self.selected = table.rows.get(position).map(|row| row.key.clone());
    }

    /// What the selected row says of itself.
    pub(super) fn details(&self, table: &Table) -> Vec<String> {
        let row = self.state.selected().and_then(|at| table.rows.get(at));
        row.map_or(Vec::new(), |row| row.details.clone())
    }
}
