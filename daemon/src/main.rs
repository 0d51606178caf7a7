//! `tandem`: all roles and the command line in one executable.

fn main() {
    std::process::exit(tandem::cli::main());
}
