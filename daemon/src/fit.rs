//! `tandem model fit`: what the configured model needs of this machine's memory, and whether it has
//! it. Reads headers only.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use tandem_engine::{
    EngineError,
    budget::{self, Budget, Ceiling, Terms},
    start::ModelFiles,
};
use tandem_wire::exit;

use crate::config::Config;

/// What to look at.
#[derive(Args, Debug, Default)]
pub struct Options {
    /// Folder of the model; without it that of the config
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The fallback's model, which this machine serves alone
    #[arg(long, conflicts_with = "model")]
    fallback: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// The outcome, as `--json` prints it and the supervisor reads it. One of the three is there.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// It fits, and this machine's ranks need at least so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_bytes: Option<u64>,
    /// It never fits: what is needed, what there is, and which key to lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_much: Option<String>,
    /// It can't be told: no model that can be served is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was computed.
pub struct Report {
    /// The outcome.
    pub verdict: Verdict,
    /// The table and what goes with it, for people.
    pub text: String,
}

impl Report {
    /// 0 if it fits, [`exit::USAGE`] if it does not.
    pub fn exit_code(&self) -> i32 {
        if self.verdict.too_much.is_some() { exit::USAGE } else { exit::OK }
    }
}

/// Runs the command; returns its exit code.
pub fn run(config: &Config, options: &Options) -> anyhow::Result<i32> {
    let mut config = config.clone();
    if options.fallback {
        if !config.fallback.is_set() {
            errln!("the config has no fallback (fallback.path)");
            return Ok(exit::USAGE);
        }
        config = config.alone();
    }
    if let Some(model) = &options.model {
        config.model.path.clone_from(model);
    }
    let reported = report(&config);
    if options.json {
        let (verdict, code) = match reported {
            Ok(report) => (serde_json::to_string(&report.verdict)?, report.exit_code()),
            Err(error) => {
                let code = error.exit_code();
                let error = Some(format!("{:#}", anyhow::Error::new(error)));
                (serde_json::to_string(&Verdict { error, ..Verdict::default() })?, code)
            }
        };
        outln!("{verdict}");
        return Ok(code);
    }
    Ok(match reported {
        Ok(report) => {
            out!("{}", report.text);
            report.exit_code()
        }
        Err(error) => {
            let code = error.exit_code();
            errln!("{:#}", anyhow::Error::new(error));
            code
        }
    })
}

/// Computes what the config's model needs here.
///
/// # Errors
/// There is no model that can be served so.
pub fn report(config: &Config) -> Result<Report, EngineError> {
    report_under(config, config.memory_ceiling())
}

fn report_under(config: &Config, ceiling: Option<Ceiling>) -> Result<Report, EngineError> {
    let Some(setup) = config.rank_setup(0) else {
        return Err(EngineError::Usage("the config has no [[rank]]".into()));
    };
    let files = ModelFiles::open(&setup.model_dir)?;
    let terms = Terms::new(&files, &setup.settings);
    let demands = budget::demands(&files, &setup)?;
    let is_own = |rank: usize| config.rank.get(rank).is_some_and(|r| r.node == config.node.name);
    let own: Vec<_> =
        demands.iter().enumerate().filter(|(n, _)| is_own(*n)).map(|(_, demand)| *demand).collect();
    let fit = budget::fit(&own, &terms, ceiling.as_ref());
    let tokens = match &fit {
        Ok(fit) => fit.kv_tokens,
        Err(_) => budget::cache_tokens(terms.context_tokens.into()),
    };
    let column = |(rank, demand): (usize, &budget::Demand)| {
        let node = config.rank.get(rank).map_or("", |r| r.node.as_str());
        (format!("rank {rank} ({node})"), demand.budget(tokens, terms.context_tokens))
    };
    let columns: Vec<_> = demands.iter().enumerate().map(column).collect();
    let own_bytes: u64 = own.iter().map(|d| d.budget(tokens, terms.context_tokens).total()).sum();
    let text = text(config, &terms, &columns, tokens, own_bytes, ceiling.as_ref());
    let verdict = match fit {
        Ok(fit) => Verdict { need_bytes: Some(fit.need_bytes), ..Verdict::default() },
        Err(why) => Verdict { too_much: Some(why.to_string()), ..Verdict::default() },
    };
    let text = match &verdict.too_much {
        Some(why) => format!("{text}It does not fit: {why}.\n"),
        None => text,
    };
    Ok(Report { verdict, text })
}

fn text(
    config: &Config,
    terms: &Terms,
    columns: &[(String, Budget)],
    tokens: u64,
    own_bytes: u64,
    ceiling: Option<&Ceiling>,
) -> String {
    let context = terms.context_tokens;
    let requests = tokens / budget::cache_tokens(context.into()).max(1);
    let plural = if requests == 1 { "" } else { "s" };
    let bound = match ceiling {
        Some(Ceiling { bytes, origin }) => {
            format!("it may give them {} MiB: {origin}", bytes >> 20)
        }
        None => "what it may give them is not known".to_owned(),
    };
    format!(
        "{}\n\n{}\nThe KV cache of a rank holds {tokens} tokens: {requests} request{plural} of the \
         full context of {context} tokens at once, or more shorter ones, {} at most.\n\
         Ranks of this machine: {} MiB together; {bound}.\n",
        config.model.path.display(),
        budget::table(columns),
        terms.max_active,
        own_bytes.div_ceil(1 << 20),
    )
}

#[cfg(test)]
mod tests;
