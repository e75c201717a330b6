//! The `cairn` command. Not here: what it does (the library), or what its verbs say (`cli`).

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
