//! How important the requests of a route are where not all can be served. Not here: what is done with the others (`exchange`).

use std::fmt;

use crate::cluster::Priority;
use crate::http::Fields;

/// `priority` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Importance {
    /// All of them alike.
    Fixed(Priority),
    /// As a field of this name says, in a request of a trusted peer; others, and those without the field, are normal.
    Field(Box<str>),
}

impl Default for Importance {
    fn default() -> Self {
        Self::Fixed(Priority::Normal)
    }
}

impl Importance {
    /// The priority of a request. `trusted`: whether its sender may say.
    #[must_use]
    #[inline]
    pub fn of(&self, fields: &Fields, head: &[u8], trusted: bool) -> Priority {
        match self {
            Self::Fixed(priority) => *priority,
            Self::Field(name) => {
                let named = fields.named(head, name.as_bytes()).next().filter(|_| trusted);
                named.and_then(|field| Priority::named(field.value.of(head))).unwrap_or_default()
            }
        }
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(priority) => f.write_str(priority.name()),
            Self::Field(name) => write!(f, "header:{name}"),
        }
    }
}
