//! Every command with an output that can't be written: a pipe whose reader is gone, and a full disk.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use clap::CommandFactory;
use tandem::cli::Cli;

/// Words that make a command print something and end soon; `None` for one that is not known here.
/// `CONFIG` stands for a config file, `FOLDER` for its folder.
fn words(command: &str) -> Option<&'static str> {
    Some(match command {
        "supervise" | "gateway" => "--config FOLDER/none.toml",
        "rank" => "--rank 0 --config FOLDER/none.toml",
        "manifest" => "--config FOLDER/none.toml --out FOLDER/manifest.json",
        "explain" => "--config CONFIG gpu-hang",
        "ledger" => "--config CONFIG select",
        "reboot" => "--config CONFIG --reason test",
        "pair init" => "--config FOLDER/none.toml",
        "pair join" => "--config FOLDER/none.toml 127.0.0.1 000000",
        "pair forget" => "--config CONFIG nobody",
        "service install" | "service uninstall" | "service start" | "service stop"
        | "service restart" | "service status" => "--job FOLDER/none.plist",
        "model import" => "FOLDER/none.gguf --models FOLDER",
        "model fit" => "--config CONFIG --json",
        "key" | "key new" | "version" | "man" => "",
        "selftest" => "--boot --config CONFIG",
        "bench" => "--url http://127.0.0.1:1",
        "completions" => "bash",
        "status" | "check" | "gates" | "handoff" | "doctor" | "events" | "drain" | "resume"
        | "hold" | "release" | "pair status" | "config check" | "config show" => "--config CONFIG",
        _ => return None,
    })
}

/// All that clap lists, also what it hides.
fn listed(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    for inner in command.get_subcommands() {
        let path = format!("{path} {}", inner.get_name()).trim().to_owned();
        listed(inner, &path, found);
        if !inner.is_subcommand_required_set() {
            found.push(path);
        }
    }
}

fn ran(line: &str, folder: &Path, stdout: Stdio, stderr: Stdio) -> Output {
    let config = folder.join("tandem.toml");
    let line = line
        .replace("CONFIG", config.to_str().unwrap())
        .replace("FOLDER", folder.to_str().unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    child.wait_with_output().unwrap()
}

/// The end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn no_command_panics_at_an_output_that_can_not_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[node]\nuser = \"\"\nrun_dir = \"run\"\nstate_dir = \"state\"\n[model]\npath = \"m\"\n\
                [supervise]\nstatus_listen = \"127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("tandem.toml"), text).unwrap();
    let mut commands = Vec::new();
    listed(&Cli::command(), "", &mut commands);
    assert!(commands.len() > 25, "{commands:?}");
    let mut wrong = Vec::new();
    for command in &commands {
        let words =
            words(command).unwrap_or_else(|| panic!("no words to try `tandem {command}` with"));
        for line in [format!("{command} {words}"), format!("{command} --help")] {
            let plain = ran(&line, folder.path(), Stdio::piped(), Stdio::piped());
            let (prints, code) = (!plain.stdout.is_empty(), plain.status.code());
            let quiet = ran(&line, folder.path(), closed_pipe(), Stdio::piped());
            let expected = if prints { Some(0) } else { code };
            if quiet.status.code() != expected || quiet.stderr != plain.stderr {
                wrong.push(format!("{line} on a closed pipe: {quiet:?}, plainly {plain:?}"));
            }
            let full = ran(&line, folder.path(), full_disk(), Stdio::piped());
            let said = String::from_utf8_lossy(&full.stderr).contains("No space left on device");
            let expected = if prints { Some(74) } else { code };
            if full.status.code() != expected || said != prints {
                wrong.push(format!("{line} on a full disk: {full:?}, plainly {plain:?}"));
            }
            // Nor where nothing at all can be said.
            for (stdout, stderr) in [(closed_pipe(), closed_pipe()), (full_disk(), full_disk())] {
                let mute = ran(&line, folder.path(), stdout, stderr);
                if mute.status.signal().is_some() || mute.status.code() == Some(101) {
                    wrong.push(format!("{line} with nothing to write to: {:?}", mute.status));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
