//! `tandem selftest`: what this machine can show of itself without a supervisor and without a change.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tandem_console::{
    Style, Terminal,
    command::{self, Check, Outcome},
};
use tandem_host::{
    LinkWatch,
    probes::{self, Tool},
};
use tandem_policy::invariant::{Invariant, Unknown};
use tandem_wire::exit;

use crate::{
    config::{self, Config},
    output, own_checks,
};

/// Longest time of the engine's proof: the first use of a GPU compiles its kernels.
const ENGINE_TIMEOUT_MS: u64 = 60_000;

/// Longest time of the list of Thunderbolt ports: Apple's tool for it takes seconds.
const PORTS_TIMEOUT: Duration = Duration::from_secs(30);

/// What must be right for a machine to come back by itself after a power loss or a reboot, and to form
/// a pair: what an installation relies on.
const OF_BOOT: [Invariant; 5] = [
    Invariant::OsVersion,
    Invariant::UnattendedBoot,
    Invariant::RestartAfterPowerLoss,
    Invariant::AutomaticUpdatesOff,
    Invariant::RdmaEnabled,
];

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The config file; without one its defaults
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Only what an installation relies on: the system's version, and that it boots unattended
    #[arg(long)]
    boot: bool,
    /// Only the engine's proof, in this process
    #[arg(long, hide = true, conflicts_with = "boot")]
    engine: bool,
}

/// Makes the checks and prints them; returns the exit code.
pub(crate) fn run(options: &Options) -> anyhow::Result<i32> {
    if options.engine {
        tandem_engine::mlx::prove_device()?;
        return Ok(exit::OK);
    }
    // What is wrong with a config is one of the checks; the host can be looked at regardless.
    let config = Config::load(&options.config).unwrap_or_default();
    outln!("tandem {} on {}", env!("CARGO_PKG_VERSION"), tandem_host::os_version());
    let checks = if options.boot {
        OF_BOOT.into_iter().filter_map(|invariant| own_checks::of(&config, invariant)).collect()
    } else {
        everything(&options.config, &config)?
    };
    let style = Style::of(Terminal::None, None, tandem_host::columns(), tandem_host::now().wall_ms);
    Ok(command::print_checks(&mut io::stdout().lock(), &style, &checks)
        .unwrap_or_else(|error| output::failed(&error)))
}

fn everything(path: &Path, config: &Config) -> anyhow::Result<Vec<Check>> {
    let mut checks = own_checks::all(path, config);
    checks.push(boot());
    checks.push(memory(config));
    checks.push(link_changes()?);
    checks.extend(ports());
    checks.extend(gpus());
    checks.push(engine()?);
    Ok(checks)
}

fn check(name: &str, found: Result<String, String>, remedy: &str) -> Check {
    let outcome = match found {
        Ok(found) => Outcome::Fine(found),
        Err(why) => Outcome::Wrong(why),
    };
    Check { name: name.into(), outcome, remedy: remedy.into() }
}

/// The id is told in part: enough to see that it changed.
fn boot() -> Check {
    let id: String = tandem_host::boot_id().chars().take(8).collect();
    let up_s = tandem_host::now().boot_ms / 1_000;
    let found = if id.is_empty() {
        Err("the system does not say which boot this is".into())
    } else {
        Ok(format!("{id}, up {up_s} s"))
    };
    check("boot", found, "without it a coordinated reboot can't be proven: report this")
}

fn memory(config: &Config) -> Check {
    let found = tandem_host::memory(config.leak.owner_min_mib << 20)
        .map(|memory| {
            let owners: Vec<String> = memory
                .owners
                .iter()
                .map(|owner| format!("{} {} MiB", owner.name, owner.footprint_bytes >> 20))
                .collect();
            format!(
                "{} MiB of {} MiB wired, {} MiB available; large processes: {}",
                memory.wired_bytes >> 20,
                memory.total_bytes >> 20,
                memory.available_bytes >> 20,
                if owners.is_empty() { "none".into() } else { owners.join(", ") }
            )
        })
        .map_err(|error| error.to_string());
    check("memory", found, "run it as root: other users' processes are read for it")
}

fn link_changes() -> anyhow::Result<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    let _inside = runtime.enter();
    let found = LinkWatch::open()
        .map(|_| "the system announces them".to_owned())
        .map_err(|error| error.to_string());
    Ok(check("changes of links", found, "they are polled instead: report this"))
}

/// Every Thunderbolt port; nothing on a platform whose ports are not looked at.
fn ports() -> Vec<Check> {
    let read =
        probes::bounded("the Thunderbolt ports", PORTS_TIMEOUT, tandem_host::thunderbolt_ports);
    let remedy = "compare with `system_profiler SPThunderboltDataType`";
    match read {
        Err(Unknown::NotOnThisPlatform) => Vec::new(),
        Err(unknown) => vec![check("thunderbolt", Err(unknown.to_string()), remedy)],
        Ok(ports) => ports
            .into_iter()
            .map(|port| {
                let device = port.rdma_device.unwrap_or_else(|| "no RDMA device".into());
                let peer = port.peer_domain_uuid.map_or_else(
                    || "nothing at its other end".to_owned(),
                    |uuid| format!("domain {uuid} at its other end"),
                );
                let found = format!("{device}, domain {}, {peer}", port.domain_uuid);
                check(&format!("port {}", port.interface), Ok(found), "")
            })
            .collect(),
    }
}

/// Every GPU's own counters; nothing on a platform whose GPUs are not looked at. One that is always busy
/// and was never reset hangs; one that was reset has lost what it computed.
fn gpus() -> Vec<Check> {
    let limit = Duration::from_secs(5);
    let read = probes::bounded("the GPU's counters", limit, || Ok(tandem_host::accelerators()));
    let remedy = "compare with `ioreg -r -c IOAccelerator -d 1 -w 0`";
    match read {
        Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => Vec::new(),
        Ok(Err(error)) => vec![check("gpu", Err(error.to_string()), remedy)],
        Err(unknown) => vec![check("gpu", Err(unknown.to_string()), remedy)],
        Ok(Ok(gpus)) => gpus
            .into_iter()
            .map(|gpu| {
                let told = |number: Option<u64>| number.map_or("?".into(), |n| n.to_string());
                let found = format!(
                    "{} MiB in use, {} % busy, {} resets since boot",
                    gpu.in_use_bytes >> 20,
                    told(gpu.utilization_percent),
                    told(gpu.recoveries)
                );
                check("gpu", Ok(found), remedy)
            })
            .collect(),
    }
}

/// In a process of its own: where there is no GPU to be had, MLX ends the process that asks.
fn engine() -> anyhow::Result<Check> {
    let executable = std::env::current_exe().context("can't find this executable")?;
    let tool = Tool::new(executable.display().to_string(), &["selftest", "--engine"])
        .within(ENGINE_TIMEOUT_MS);
    // It is killed at its limit, so a moment later there is an answer.
    let limit = Duration::from_millis(ENGINE_TIMEOUT_MS + 5_000);
    let output = probes::bounded("the engine's proof", limit, move || probes::command(&tool));
    let device = if tandem_engine::mlx::on_metal() { "the GPU" } else { "the CPU" };
    let found = match output {
        Ok(output) if output.code == Some(exit::OK) => Ok(format!("{device} multiplies")),
        Ok(output) => Err(format!("{device} does not multiply: {}", output.stderr.trim())),
        Err(unknown) => Err(unknown.to_string()),
    };
    Ok(check(
        "engine",
        found,
        "see whether the system has a GPU, then `tandem explain` these words",
    ))
}
