//! What connections of HTTP/2 are made with, on either side of the load. Not here: what goes over them (`run`, `origin`).

use cairn::http2::abuse::{AbuseLimits, Rate};
use cairn::http2::connection::Spec;
use cairn::http2::hpack::SectionLimits;
use cairn::http2::{Settings, Side};
use cairn::limits;

/// Most bytes of a field section.
pub(crate) const SECTION_BYTES: u32 = limits::HEAD_BYTES_MAX as u32;

/// A yardstick takes whatever the other side sends.
const NO_LIMIT: Rate = Rate { burst: u32::MAX, rate: u32::MAX };

/// A connection with so many streams at once.
pub(crate) fn spec(side: Side, settings: Settings, connection_window: u32, streams: u16) -> Spec {
    Spec {
        side,
        settings,
        connection_window,
        streams,
        section: SectionLimits { list_bytes: SECTION_BYTES, fields: limits::HEADER_COUNT_MAX as u32 },
        abuse: AbuseLimits {
            resets: NO_LIMIT,
            glitches: NO_LIMIT,
            settings: 64,
            continuations: u32::MAX,
            queued_controls: u32::MAX,
        },
    }
}
