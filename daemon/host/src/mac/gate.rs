//! The way to tools that ask the RDMA driver: one at a time, and none after one hung.
//!
//! A process that is stuck in that driver can't be killed, keeps the machine from shutting down, and
//! the next one gets stuck as well; hundreds of them were seen on one machine. What hung is kept for
//! the whole process, whoever asked.

use std::sync::{Mutex, PoisonError};

use tandem_policy::invariant::Unknown;

use crate::probes::{Answer, CommandOutput, Tool};

/// The gate; a process has one.
#[derive(Debug, Default)]
pub struct Gate {
    /// What hung first.
    hung: Mutex<Option<String>>,
}

impl Gate {
    /// An open one.
    pub const fn new() -> Self {
        Self { hung: Mutex::new(None) }
    }

    /// Runs a tool. One that asks a driver waits until the one before it has ended, which is bounded by
    /// that one's time limit.
    ///
    /// # Errors
    /// The tool's; for one that asks a driver [`Unknown::Hung`] once any of them hung.
    pub fn run(
        &self,
        tool: &Tool,
        run: impl FnOnce() -> Answer<CommandOutput>,
    ) -> Answer<CommandOutput> {
        if !tool.asks_driver {
            return run();
        }
        // The text stays whole whoever panicked.
        let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &*hung {
            return Err(Unknown::Hung(reason.clone()));
        }
        let answer = run();
        if let Err(Unknown::Hung(reason)) = &answer {
            *hung = Some(reason.clone());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    fn said() -> CommandOutput {
        CommandOutput { code: Some(0), stdout: String::new(), stderr: String::new() }
    }

    #[test]
    fn no_tool_asks_the_driver_after_one_hung_and_the_others_go_on() {
        let (gate, hung) = (Gate::new(), Unknown::Hung("ibv_devices".into()));
        let [devices, info] = ["/bin/a", "/bin/b"].map(|path| Tool::new(path, &[]).asking_driver());
        let failed = Unknown::Failed("it is not there".into());
        assert_eq!(gate.run(&info, || Err(failed.clone())), Err(failed));
        assert_eq!(gate.run(&info, || Ok(said())), Ok(said()), "a failure is no hang");
        assert_eq!(gate.run(&devices, || Err(hung.clone())), Err(hung.clone()));
        assert_eq!(gate.run(&info, || panic!("it was run")), Err(hung.clone()));
        assert_eq!(gate.run(&Tool::new("/bin/c", &[]), || Ok(said())), Ok(said()));
    }

    #[test]
    fn tools_that_ask_the_driver_run_one_at_a_time() {
        let (gate, running) = (Gate::new(), AtomicU32::new(0));
        let run = || {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(said())
        };
        let tool = Tool::new("/bin/a", &[]).asking_driver();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| gate.run(&tool, run).unwrap());
            }
        });
    }
}
