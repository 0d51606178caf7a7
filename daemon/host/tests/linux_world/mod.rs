//! Namespaces of a test's own, so that it may change a real kernel's state.

use std::{any::Any, env, panic::resume_unwind, path::Path, process::Command, thread};

use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread in new namespaces: sockets, and processes that it starts, are in them.
/// Where they can't be had the test is skipped, and says so; with `TANDEM_REQUIRE_ALL` it fails.
pub(crate) fn in_new(namespaces: CloneFlags, test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        if let Err(error) = unshare(namespaces) {
            let reason = format!("needs root to make {namespaces:?}: {error}");
            assert!(env::var_os("TANDEM_REQUIRE_ALL").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return;
        }
        test();
    });
    thread.join().unwrap_or_else(|panic: Box<dyn Any + Send>| resume_unwind(panic));
}

/// Runs a tool that must succeed; its standard output.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{} can't be run: {error}", program.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {stderr}", program.display());
    String::from_utf8(output.stdout).unwrap()
}
