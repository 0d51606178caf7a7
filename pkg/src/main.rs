//! `tandem-pkg`: builds Tandem for macOS and packs it as an installer package.

use std::path::Path;

use clap::{Parser, Subcommand};
use tandem_pkg::command::{Check, Pack};

#[derive(Parser)]
#[command(version)]
/// Builds Tandem for macOS and packs it as an installer package.
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pack what was built.
    Pack(Pack),
    /// Look at a package again: all that is in it, with owners, modes and digests.
    Check(Check),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Pack(pack) => pack.run(Path::new(".")),
        Command::Check(check) => check.run(),
    }
}
