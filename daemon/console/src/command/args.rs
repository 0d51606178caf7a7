//! The command line of the commands.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::{
    command::EVENT_KINDS,
    control::{HOLD_MS_MAX, HOLD_MS_MIN},
    print::time::parse_span,
};

/// Most events of one `tandem events`: as many as the ledger gives.
const EVENTS_MAX: usize = 10_000;

/// What an admin asks of a supervisor.
#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show what the supervisor sees
    ///
    /// Exit codes: 0 healthy, 1 degraded (starting, being mended, or serving but not as it
    /// should), 2 not serving, 3 peer unreachable (pairs only), 64 bad usage, 69 no supervisor
    /// answers, or the one that does is stuck or of another version.
    Status(StatusArgs),
    /// Show every invariant of the host: wanted, got, and when it last drifted
    ///
    /// Exit codes: 0 all that are enforced hold, 1 one does not or is not known, 69 as for status.
    Check(ViewArgs),
    /// Show the gates from boot to serving, with evidence
    ///
    /// Exit codes: 0 all passed, 1 not all, 69 as for status.
    Gates(ViewArgs),
    /// Check everything, with what to do about each thing that is wrong
    ///
    /// Works without a supervisor, too. Exit codes: 0 all is fine, 1 something is wrong or not
    /// known.
    Doctor(Target),
    /// Explain the open faults, a fault, an invariant, a signature or a line of a log
    ///
    /// What is found by words alone is a guess, and is called one. Exit codes: 0 something is known, 1
    /// nothing is or it is only a guess; without a text those of status.
    Explain(ExplainArgs),
    /// Show what happened
    ///
    /// Exit codes: 0, 64 bad usage, 69 no ledger, or with --follow no supervisor, 77 needs root.
    Events(EventsArgs),
    /// Show the shortest account of how things are, to be passed on
    Handoff(Target),
    /// Ask the ledger a question in SQL (read only)
    Ledger(LedgerArgs),
    /// End running requests, unload the model, and stay so
    Drain(OrderArgs),
    /// Serve again after a drain
    Resume(OrderArgs),
    /// Do nothing by itself: no mending, no restart, no reboot
    Hold(HoldArgs),
    /// End a hold, an operator's or the supervisor's own
    Release(OrderArgs),
    /// Reboot this machine, or with --pair all of them together, once nothing is served
    ///
    /// No budget of automatic reboots counts, but a hold does, and so does a machine that would not
    /// come back with nobody present. Exit codes: 0 the supervisor took the order, 64 bad usage,
    /// 69 no supervisor, 77 needs root.
    Reboot(RebootArgs),
}

/// Which supervisor.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The config file, which names the status endpoint
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// The status endpoint to ask.
    #[arg(
        long,
        conflicts_with = "config",
        help = "Ask this status endpoint and read no config, such as http://127.0.0.1:52380"
    )]
    pub url: Option<String>,
}

/// How to view a part of the status.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewArgs {
    /// Which supervisor.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON, as the endpoint gives it
    #[arg(long)]
    pub json: bool,
}

/// Of `status`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusArgs {
    /// Which supervisor, and how.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Show it again every second until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// Of `explain`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainArgs {
    /// Which supervisor.
    #[command(flatten)]
    pub target: Target,
    /// A fault, an invariant, the id of a signature, or a line of a log; without it the open faults
    // Metal's assertions begin with "-[".
    #[arg(value_name = "FAULT|TEXT", allow_hyphen_values = true)]
    pub what: Option<String>,
}

/// Of `events`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsArgs {
    /// Which supervisor.
    #[command(flatten)]
    pub target: Target,
    /// Only events after this id, oldest first
    #[arg(long, value_name = "ID")]
    pub since: Option<i64>,
    /// Go on with what happens from now on
    #[arg(long)]
    pub follow: bool,
    /// Only events of this kind; can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = EVENT_KINDS)]
    pub kinds: Vec<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit)]
    pub limit: usize,
    /// Print JSON, one event a line
    #[arg(long)]
    pub json: bool,
}

/// Of `ledger`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerArgs {
    /// The config file, which names the folder of the ledger
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// One statement that only reads
    pub sql: String,
    /// Print JSON: an array of objects
    #[arg(long)]
    pub json: bool,
    /// Print CSV (RFC 4180)
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// Of an order.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderArgs {
    /// The config file, which names the folder of the control socket
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
}

/// Of `hold`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldArgs {
    /// Which supervisor.
    #[command(flatten)]
    pub order: OrderArgs,
    /// For so long: 90s, 30m, 2h or 1d; without it until released
    #[arg(long = "for", value_name = "TIME", value_parser = hold_ms)]
    pub for_ms: Option<u64>,
}

/// Of `reboot`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RebootArgs {
    /// Which supervisor.
    #[command(flatten)]
    pub order: OrderArgs,
    /// All machines of the pair together
    #[arg(long)]
    pub pair: bool,
    /// Why, for the history and for whoever looks at the other machine
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

impl Command {
    /// The config file that was named.
    pub fn config(&self) -> Option<&Path> {
        match self {
            Self::Ledger(args) => args.config.as_deref(),
            Self::Drain(args) | Self::Resume(args) | Self::Release(args) => args.config.as_deref(),
            Self::Hold(args) => args.order.config.as_deref(),
            Self::Reboot(args) => args.order.config.as_deref(),
            _ => self.target()?.config.as_deref(),
        }
    }

    /// The status endpoint that was named.
    pub fn url(&self) -> Option<&str> {
        self.target()?.url.as_deref()
    }

    const fn target(&self) -> Option<&Target> {
        match self {
            Self::Status(args) => Some(&args.view.target),
            Self::Check(args) | Self::Gates(args) => Some(&args.target),
            Self::Doctor(target) | Self::Handoff(target) => Some(target),
            Self::Explain(args) => Some(&args.target),
            Self::Events(args) => Some(&args.target),
            _ => None,
        }
    }
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=EVENTS_MAX).contains(limit))
        .ok_or_else(|| format!("write a number from 1 to {EVENTS_MAX}"))
}

fn hold_ms(text: &str) -> Result<u64, String> {
    let ms = parse_span(text)?;
    if (HOLD_MS_MIN..=HOLD_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err("hold for 1s to 30d, or without --for until released".into())
}
