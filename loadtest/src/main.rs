//! The load generator. Skeleton until its own issue.
fn main() {}
