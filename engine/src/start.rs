//! From a rank's setup to an executor with its shard loaded.

use std::path::Path;
use std::rc::Rc;

use tandem_wire::{ModelCard, Transport};

use crate::budget::{self, Ceiling};
use crate::checkpoint::Checkpoint;
use crate::control::ring::Neighbours;
use crate::execute::MlxExecutor;
use crate::load::Loader;
use crate::mlx::{Group, install_error_handler, memory_bytes, on_metal, working_set_bytes};
use crate::model;
use crate::model_config::ModelConfig;
use crate::sample::Vocabulary;
use crate::settings::{RankSetup, Settings};
use crate::shard::ShardPlan;
use crate::step::Loaded;
use crate::{EngineError, affinity, transport};

/// A model folder whose headers are read and checked; no weight is.
pub struct ModelFiles {
    /// The folder.
    pub checkpoint: Checkpoint,
    /// Its typed config.
    pub config: ModelConfig,
}

impl ModelFiles {
    /// Opens and checks a folder. Refuses by name whatever can't be served, before memory is taken.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        let checkpoint = Checkpoint::open(dir)?;
        let config = ModelConfig::load(&checkpoint)?;
        Ok(Self { checkpoint, config })
    }

    /// Most tokens of one request: the model's own limit, or a lower one that is configured.
    pub fn context_tokens(&self, settings: &Settings) -> u32 {
        let own = u32::try_from(self.config.context_limit()).unwrap_or(u32::MAX);
        match settings.context_tokens {
            0 => own,
            configured => own.min(configured),
        }
    }
}

/// What is told of a start while it goes on.
#[derive(Debug)]
pub enum Progress {
    /// The group is formed and its sums were right. Not told of a rank alone, which has no group.
    Measured(Transport),
    /// Weights are being read from now on.
    Loading,
}

/// Forms the group, measures it, loads this rank's shard; refuses before all that what does not fit
/// into the device's memory. To be called on the thread that will own MLX. `neighbours` are this rank's
/// connections in a ring; without them the group is formed as the environment says.
pub fn start(
    setup: &RankSetup,
    files: &ModelFiles,
    neighbours: Option<Neighbours>,
    tell: &dyn Fn(Progress),
) -> Result<MlxExecutor, EngineError> {
    affinity::pin(setup);
    install_error_handler();
    let ceiling = Ceiling::lowered(setup.ceiling.clone(), working_set_bytes());
    let fit = budget::fit_rank(files, &RankSetup { ceiling, ..setup.clone() })?;
    wire(setup.settings.wired_limit_mib)?;
    let ModelFiles { checkpoint, config } = files;
    let weights: Vec<u32> = setup.ranks.iter().map(|place| place.weight).collect();
    let plan_of = |rank| ShardPlan::new(config, &weights, rank);
    let plans = (0..weights.len()).map(plan_of).collect::<Result<Vec<_>, _>>()?;
    let rank = setup.rank as usize;
    let plan = plans.get(rank).ok_or_else(|| {
        EngineError::Usage(format!("rank {rank} of a gang of {} ranks", plans.len()))
    })?;
    let group = if plans.len() == 1 {
        None
    } else {
        let size = plans.len() as u32;
        let group = match neighbours {
            Some(neighbours) => Group::join_ring(neighbours, setup.rank, size),
            None => Group::init(setup.settings.backend, true, setup.rank, size),
        };
        Some(Rc::new(group?))
    };
    if let Some(group) = &group {
        tell(Progress::Measured(transport::sweep(group)?));
    }
    tell(Progress::Loading);
    let began = std::time::Instant::now();
    let expand = setup.settings.cpu_expand && !on_metal();
    let loader = Loader::new(checkpoint, config, plan, group, expand)?;
    let decoder = model::load(&loader)?;
    let loaded = Loaded {
        card: ModelCard {
            architecture: config.model_type.name().to_owned(),
            vocab_size: config.vocab_size as u32,
            context_tokens: files.context_tokens(&setup.settings),
        },
        bytes_read: checkpoint.bytes_read(),
        weights_bytes: decoder.weights_bytes(),
        kv_tokens: fit.kv_tokens,
    };
    tracing::info!(
        rank,
        bytes_read = loaded.bytes_read,
        checkpoint_bytes = checkpoint.total_bytes(),
        weights_bytes = loaded.weights_bytes,
        kv_tokens = loaded.kv_tokens,
        memory_peak_bytes = memory_bytes().1,
        load_ms = began.elapsed().as_millis() as u64,
        "shard loaded"
    );
    let parts = plans.iter().map(|p| (p.vocab.start as i32, p.vocab.len() as i32)).collect();
    Ok(MlxExecutor::new(decoder, Vocabulary::new(parts, rank)?, loaded))
}

/// Has MLX keep so much of its memory wired, if the config asks for it; no call at all otherwise. Metal
/// wires what a command buffer uses by itself, and a kernel panic of macOS 26.3 to 26.5
/// (`completeMemory() prepare count underflow`) was met only by programs that had made this call
/// (ml-explore/mlx#3186), so not to make it is the default.
fn wire(limit_mib: u64) -> Result<(), EngineError> {
    if limit_mib == 0 || !on_metal() {
        return Ok(());
    }
    let limit_bytes = usize::try_from(limit_mib << 20).unwrap_or(usize::MAX);
    let before_bytes = mlx_rs::memory::set_wired_limit(limit_bytes)?;
    tracing::info!(limit_bytes, before_bytes, "MLX's wired limit is set");
    Ok(())
}
