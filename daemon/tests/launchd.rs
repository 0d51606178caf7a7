//! The launchd job, against the code that it starts and the package that installs it.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use plist::{Dictionary, Value};
use tandem::{config::Config, service};

/// Where the package puts things: its own list, read here as it is written there.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a library's, and not all of it is about the job"
)]
#[path = "../../pkg/src/layout.rs"]
mod layout;

fn job() -> Dictionary {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../launchd/io.tandem.supervise.plist");
    Value::from_file(file).unwrap().into_dictionary().unwrap()
}

fn text<'a>(job: &'a Dictionary, key: &str) -> &'a str {
    job.get(key).unwrap_or_else(|| panic!("no {key}")).as_string().unwrap()
}

fn number(job: &Dictionary, key: &str) -> u64 {
    job.get(key).unwrap_or_else(|| panic!("no {key}")).as_unsigned_integer().unwrap()
}

#[test]
fn it_starts_what_the_package_installs_as_the_service_command_calls_it() {
    let job = job();
    assert_eq!(text(&job, "Label"), layout::LABEL);
    assert_eq!(service::LABEL, layout::LABEL);
    assert_eq!(service::JOB, layout::JOB);
    let arguments: Vec<&str> = job["ProgramArguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_string().unwrap())
        .collect();
    assert_eq!(arguments, [layout::EXECUTABLE, "supervise", "--config", layout::CONFIG]);
    for output in ["StandardOutPath", "StandardErrorPath"] {
        let (folder, _) = text(&job, output).rsplit_once('/').unwrap();
        assert_eq!(folder, layout::LOGS);
    }
    if cfg!(target_os = "macos") {
        assert_eq!(tandem::config::DEFAULT_PATH, layout::CONFIG);
    }
}

#[test]
fn launchd_kills_later_than_an_orderly_stop_can_take() {
    let config = Config::default();
    let stop_ms = config.supervise.unload_timeout_ms + config.supervise.drain_timeout_ms;
    let timeout_ms = number(&job(), "ExitTimeOut") * 1_000;
    assert!(timeout_ms > stop_ms, "{timeout_ms} ms for {stop_ms} ms");
}

#[test]
fn it_may_open_what_the_supervisor_asks_of_its_host_and_each_client_needs() {
    let config = Config::default();
    let clients = u64::from(config.gateway.max_connections);
    for limits in ["SoftResourceLimits", "HardResourceLimits"] {
        let files = number(job()[limits].as_dictionary().unwrap(), "NumberOfFiles");
        assert!(files >= config.host.open_files_min && files > clients, "{limits}: {files}");
    }
}

#[test]
fn a_crash_is_restarted_an_orderly_stop_is_not_and_ranks_outlive_both() {
    let job = job();
    let keep_alive = job["KeepAlive"].as_dictionary().unwrap();
    assert_eq!(keep_alive.get("SuccessfulExit").and_then(Value::as_boolean), Some(false));
    assert_eq!(keep_alive.len(), 1, "every further condition is one more reason to start it");
    for key in ["RunAtLoad", "AbandonProcessGroup"] {
        assert_eq!(job[key].as_boolean(), Some(true), "{key}");
    }
    assert_eq!(text(&job, "ProcessType"), "Interactive");
    // launchd starts it at most this often; START_MAX of the service command waits for two of them.
    assert!((10..=15).contains(&number(&job, "ThrottleInterval")));
    // It must run as root to hold the host, so nothing may say otherwise.
    for key in ["UserName", "GroupName", "Program", "Disabled", "WorkingDirectory"] {
        assert!(!job.contains_key(key), "{key}");
    }
}
