//! `tandem-pkg`: builds Tandem for macOS and packs it as an installer package.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tandem_pkg::command::{Check, Pack, PackOptions};
use tandem_pkg::cross::{self, Options, Sign};
use tandem_pkg::macho::{self, Expected};

/// Builds Tandem for macOS and packs it as an installer package.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and pack it.
    Build {
        #[command(flatten)]
        build: BuildArgs,
        #[command(flatten)]
        pack: PackOptions,
    },
    /// Build only the executable, with its libraries beside it.
    Cross(BuildArgs),
    /// Check an executable for Apple silicon, and the libraries beside it.
    CheckExecutable(CheckExecutableArgs),
    /// Pack what was built before.
    Pack(Pack),
    /// Read a package again, all that is in it, with owners, modes and digests.
    Check(Check),
}

/// Where to build and how to sign.
#[derive(Args)]
struct BuildArgs {
    /// This checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Sign with this identity of the keychain (on a Mac).
    #[arg(long, value_name = "NAME", conflicts_with = "p12_file")]
    identity: Option<String>,
    /// Sign with this certificate and key, by rcodesign (not on a Mac).
    #[arg(long, value_name = "FILE", requires = "p12_password_file")]
    p12_file: Option<PathBuf>,
    /// File with the password of --p12-file.
    #[arg(long, value_name = "FILE", requires = "p12_file")]
    p12_password_file: Option<PathBuf>,
}

#[derive(Args)]
struct CheckExecutableArgs {
    /// The executable; `libmlx.dylib` and `libjaccl.dylib` lie beside it.
    file: PathBuf,
    /// This checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// It was to be signed by an identity, with the hardened runtime.
    #[arg(long)]
    signed: bool,
}

impl BuildArgs {
    fn options(&self) -> anyhow::Result<Options> {
        let sign = match (&self.identity, &self.p12_file, &self.p12_password_file) {
            (Some(identity), ..) => Sign::Codesign { identity: identity.clone() },
            (None, Some(p12_file), Some(password_file)) => {
                Sign::Rcodesign { p12_file: p12_file.clone(), password_file: password_file.clone() }
            }
            _ => Sign::AdHoc,
        };
        Ok(Options { sign, ..Options::in_checkout(&self.root)? })
    }
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Build { build, pack } => {
            let options = build.options()?;
            let built = cross::build(&options)?;
            let report = macho::check_product(&built.executable, &Expected::product(&options)?)?;
            anyhow::ensure!(report.faults().is_empty(), "the build is not fit to ship:\n{report}");
            pack.run(&built, &options.root)?;
        }
        Command::Cross(args) => {
            let built = cross::build(&args.options()?)?;
            println!("{}", built.executable.display());
        }
        Command::CheckExecutable(args) => return check_executable(&args),
        Command::Pack(pack) => pack.run()?,
        Command::Check(check) => check.run()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a report; exit code 1 if anything is wrong.
fn check_executable(args: &CheckExecutableArgs) -> anyhow::Result<ExitCode> {
    let options = Options::in_checkout(&args.root)?;
    let expected = Expected { identity: args.signed, ..Expected::product(&options)? };
    let report = macho::check_product(&args.file, &expected)
        .with_context(|| format!("checking {}", args.file.display()))?;
    print!("{report}");
    Ok(if report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
