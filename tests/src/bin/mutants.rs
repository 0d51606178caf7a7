//! Breaks the product on purpose, one line at a time, and asks the simulation to notice.
//!
//! A simulation that finds nothing is worth as much as its power to find. Each mutation of
//! `tests/mutations.toml` is applied to a copy of the sources, built, and simulated; one that keeps
//! every promise has survived, and fails the run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use serde::Deserialize;

/// Longest time that one simulation may take; the whole of it takes half a minute.
const SIMULATION_TIMEOUT: Duration = Duration::from_secs(300);

/// How often it is looked whether a simulation has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Parser)]
#[command(about = "Breaks the product on purpose and asks the simulation to notice")]
struct Arguments {
    /// Only mutations whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Lives of one node to try each with that such lives notice.
    #[arg(long, default_value_t = 3_000)]
    seeds: u64,
    /// Lives of several nodes to try each with that only such lives notice; each takes as long as ten of
    /// one node.
    #[arg(long, default_value_t = 120)]
    pair_seeds: u64,
    /// Only each n-th of them, beginning with the first: a sample, for when there is little time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// Do not build and simulate the unmutated sources first.
    #[arg(long)]
    no_baseline: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutations {
    mutation: Vec<Mutation>,
}

/// One defect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    /// The file, from the root of the repository.
    file: PathBuf,
    /// Text that occurs in it exactly once.
    find: String,
    replace: String,
    /// What goes wrong by it.
    why: String,
    /// Which lives notice it.
    #[serde(default)]
    nodes: Nodes,
    /// Lives that are known to notice it, as `simulate --seed` takes them. They are lived first, so
    /// that not all before them are; if none of them notices it any more, the usual ones are lived.
    #[serde(default)]
    seeds: Vec<String>,
}

impl Mutation {
    /// The text of its file below this folder, with the defect.
    fn apply(&self, source: &Path) -> Result<String, String> {
        let path = source.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            count => Err(format!(
                "its text occurs {count} times in {}; the list is stale",
                self.file.display()
            )),
        }
    }
}

/// Kinds of lives, as `simulate --nodes` takes them.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Nodes {
    /// Of one node.
    #[default]
    Alone,
    /// Of several.
    Pair,
}

/// How many lives of each kind are tried.
#[derive(Clone, Copy)]
struct Lives {
    alone: u64,
    pair: u64,
}

/// What came of one.
enum Fate {
    Caught(String),
    Survived,
    /// The list or the runner is wrong, not the simulation.
    Invalid(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            println!("{failures} of the mutations were not caught");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("mutants: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// All of the list.
fn listed(root: &Path) -> Result<Vec<Mutation>, String> {
    let list = root.join("tests/mutations.toml");
    let text = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let Mutations { mutation } =
        toml::from_str(&text).map_err(|e| format!("{}: {e}", list.display()))?;
    Ok(mutation)
}

/// Tries all; returns how many were not caught.
fn run(arguments: &Arguments) -> Result<usize, String> {
    let root = Path::new(ROOT);
    let mutations = listed(root)?;
    let copy = Copy::make(root)?;
    let lives = Lives { alone: arguments.seeds, pair: arguments.pair_seeds };
    if !arguments.no_baseline {
        let began = Instant::now();
        copy.build().map_err(|e| format!("the unmutated sources do not build:\n{e}"))?;
        for nodes in [Nodes::Alone, Nodes::Pair] {
            match copy.simulate(nodes, lives)? {
                Fate::Survived => {}
                Fate::Caught(why) | Fate::Invalid(why) => {
                    return Err(format!("the unmutated sources fail: {why}"));
                }
            }
        }
        println!("{:<44} kept every promise {:>6.1} s", "unmutated", seconds(began));
    }
    let is_chosen =
        |mutation: &&Mutation| arguments.only.as_ref().is_none_or(|o| mutation.name.contains(o));
    let mut failures = 0;
    for mutation in mutations.iter().filter(is_chosen).step_by(arguments.every.into()) {
        let began = Instant::now();
        let fate = copy.try_out(mutation, lives)?;
        let text = match &fate {
            Fate::Caught(why) => format!("caught: {why}"),
            Fate::Survived => format!("SURVIVED: {}", mutation.why),
            Fate::Invalid(why) => format!("INVALID: {why}"),
        };
        println!("{:<44} {:>5.1} s  {text}", mutation.name, seconds(began));
        failures += usize::from(!matches!(fate, Fate::Caught(_)));
    }
    Ok(failures)
}

fn seconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

/// A copy of the sources, with build outputs of its own.
struct Copy {
    root: PathBuf,
    source: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Copies what cargo needs to resolve and build: manifests, the lock file and all sources. A
    /// file that is there and the same is left alone, so that it is not built again.
    fn make(root: &Path) -> Result<Self, String> {
        let folder = root.join("target/mutants");
        let copy =
            Self { root: root.into(), source: folder.join("src"), target: folder.join("target") };
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"])
            .args(["Cargo.toml", "Cargo.lock", "*/Cargo.toml", "*.rs", "tests/seeds.txt"])
            .current_dir(root)
            .output()
            .map_err(|e| format!("git ls-files: {e}"))?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
        }
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut wanted = Vec::new();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            // What was deleted and not committed is listed still.
            if root.join(name).is_file() {
                copy.take(Path::new(name))?;
                wanted.push(copy.source.join(name));
            }
        }
        remove_others(&copy.source, &wanted)?;
        Ok(copy)
    }

    /// Brings one file of the copy to what the repository has.
    fn take(&self, name: &Path) -> Result<(), String> {
        let (from, to) = (self.root.join(name), self.source.join(name));
        let told = |e| format!("copying {}: {e}", from.display());
        let text = fs::read(&from).map_err(told)?;
        if fs::read(&to).is_ok_and(|there| there == text) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(told)?;
        }
        fs::write(&to, text).map_err(told)
    }

    /// Applies one mutation, builds and simulates, and takes it back.
    fn try_out(&self, mutation: &Mutation, lives: Lives) -> Result<Fate, String> {
        let path = self.source.join(&mutation.file);
        let mutated = match mutation.apply(&self.source) {
            Ok(mutated) => mutated,
            Err(stale) => return Ok(Fate::Invalid(stale)),
        };
        fs::write(&path, mutated).map_err(|e| format!("{}: {e}", path.display()))?;
        let fate = match self.build() {
            Ok(()) => self.hunt(mutation, lives),
            Err(problem) => Ok(Fate::Invalid(format!("it does not build:\n{problem}"))),
        };
        self.take(&mutation.file)?;
        fate
    }

    fn build(&self) -> Result<(), String> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--locked", "--quiet", "-p", "tests"])
            .args(["--bin", "simulate"])
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.target)
            // Line tables cost time, and nobody debugs a mutant.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .output()
            .map_err(|e| format!("cargo: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The lives that are known to notice it, then all.
    fn hunt(&self, mutation: &Mutation, lives: Lives) -> Result<Fate, String> {
        for seed in &mutation.seeds {
            match self.live(&["--seed", seed])? {
                Fate::Survived => println!("{}: {seed} does not notice it any more", mutation.name),
                fate => return Ok(fate),
            }
        }
        self.simulate(mutation.nodes, lives)
    }

    fn simulate(&self, nodes: Nodes, lives: Lives) -> Result<Fate, String> {
        let (nodes, seeds) = match nodes {
            Nodes::Alone => ("alone", lives.alone),
            Nodes::Pair => ("pair", lives.pair),
        };
        self.live(&["--no-coverage", "--nodes", nodes, "--seeds", &seeds.to_string()])
    }

    /// Exit code 1 is a promise that was broken, 0 is none.
    fn live(&self, arguments: &[&str]) -> Result<Fate, String> {
        let program = self.target.join("debug/simulate");
        let mut child = Command::new(&program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        // Read beside, or a full pipe would stop it.
        let stdout = child.stdout.take().ok_or("it has no output")?;
        let reader = std::thread::spawn(move || std::io::read_to_string(stdout));
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|e| format!("waiting: {e}"))? {
                Some(status) => break status,
                None if began.elapsed() > SIMULATION_TIMEOUT => {
                    child.kill().map_err(|e| format!("killing: {e}"))?;
                    return Ok(Fate::Invalid("the simulation did not end in time".into()));
                }
                None => std::thread::sleep(LOOK_PAUSE),
            }
        };
        let text = match reader.join() {
            Ok(read) => read.map_err(|e| format!("reading: {e}"))?,
            Err(_) => return Err("the reader of the output panicked".into()),
        };
        let failed = text.lines().find(|line| line.contains(" FAILED: "));
        Ok(match (status.code(), failed) {
            (Some(1), Some(why)) => Fate::Caught(why.chars().take(120).collect()),
            (Some(0), _) => Fate::Survived,
            (code, _) => Fate::Invalid(format!("the simulation ended with {code:?}")),
        })
    }
}

/// Removes sources that the repository has no more.
fn remove_others(folder: &Path, wanted: &[PathBuf]) -> Result<(), String> {
    let told = |e| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(told)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full run takes too long for each change, so a line that moved away from its mutation is
    /// found here.
    #[test]
    fn every_mutation_still_meets_its_line() {
        let root = Path::new(ROOT);
        let stale: Vec<String> = listed(root)
            .unwrap()
            .iter()
            .filter_map(|m| Some(format!("{}: {}", m.name, m.apply(root).err()?)))
            .collect();
        assert_eq!(stale, Vec::<String>::new());
    }
}
