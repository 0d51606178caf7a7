//! `tandem`: all roles and the command line in one executable.

use clap::{Parser, error::ErrorKind};
use tandem::cli::{Cli, run};
use tandem_wire::exit;

fn main() {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        std::process::exit(if asked { exit::OK } else { exit::USAGE })
    });
    let code = run(cli).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        1
    });
    std::process::exit(code);
}
