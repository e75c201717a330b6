//! `[trace]`: whose trace context is believed, and who gets one. Not here: reading and writing it (`crate::trace`).

use super::section::Section;
use crate::trace::{Accept, TraceSpec};

/// The rules for trace contexts, by the table.
pub(super) fn trace(section: Section<'_>) -> TraceSpec {
    let accept = match section.word("accept") {
        "trusted" => Accept::Trusted,
        "none" => Accept::None,
        _ => Accept::Any,
    };
    TraceSpec { accept, make: section.flag("make"), b3: section.flag("b3") }
}
