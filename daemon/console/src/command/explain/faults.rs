//! What each kind of fault means.

/// A kind of fault in words.
pub(super) struct Told {
    /// [`tandem_policy::fault::Kind::name`].
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    /// What the supervisor does.
    pub(super) action: &'static str,
    /// What an operator does.
    pub(super) remedy: &'static str,
}

/// The kind of that name.
pub(super) fn of(name: &str) -> Option<&'static Told> {
    TABLE.iter().find(|told| told.name == name)
}

const fn row(
    name: &'static str,
    meaning: &'static str,
    action: &'static str,
    remedy: &'static str,
) -> Told {
    Told { name, meaning, action, remedy }
}

const TABLE: [Told; 26] = [
    row(
        "broken",
        "An invariant of the host does not hold and could not be mended.",
        "It is set again with growing pauses; one that blocks keeps the engine from starting.",
        "tandem check names it, with its own remedy.",
    ),
    row(
        "flapping",
        "An invariant is broken again and again: something else on this host sets it, too.",
        "It is left alone for a while, so that nothing is fought without end.",
        "Find what sets it (a profile, a cron job, a person); tandem events --kind drift has the times.",
    ),
    row(
        "engine",
        "The ranks failed, and no signature says why.",
        "All ranks are stopped in order and start again as the next epoch, with growing pauses.",
        "Read the ranks' log around the time; tandem events --kind epoch has it.",
    ),
    row(
        "stall",
        "A rank has work but finishes no step: its GPU or the link between the ranks is stuck.",
        "The ranks start again; if that does not help, the next rung.",
        "If it comes back, look at the link (tandem check) and lower the load.",
    ),
    row(
        "canary",
        "A small request through the gateway brought no tokens in its time, while the ranks finished no \
         step and had nothing to do.",
        "It is told and asked again; nothing is started again. Ranks that have work and finish no step \
         are a stall, which has its own rule.",
        "Send a request yourself; tandem events --kind canary has what came back.",
    ),
    row(
        "canary_refused",
        "The gateway refuses the small request that is to prove serving, as a chat and as plain text: \
         any client would be refused the same.",
        "It is told and asked again; a restart or a reboot would change nothing.",
        "Send a request yourself, and mend what its error names: the model's chat template, model.id \
         or engine.context_tokens.",
    ),
    row(
        "unanswered",
        "The ranks finish steps, and for long no request was answered: a very long prompt, or work that \
         its clients gave up.",
        "It is not called ready until something is answered; nothing is started again.",
        "See the table requests of the ledger for who asked for what, and limit that client or its prompts.",
    ),
    row(
        "garbage",
        "A small request through the gateway brought text that no sound model writes.",
        "The ranks start again, at most twice in a window; then they are held, and at once where the \
         model's files changed. It never leads to a reboot.",
        "Check the model's files and import them again; then tandem release if they are held.",
    ),
    row(
        "model_changed",
        "The model's files are others than those with which serving was last proven; they are named.",
        "It is told. If they bring garbage, the ranks are held at once, since each start would load the \
         same; once they bring tokens, they are the ones that are remembered.",
        "If nobody put another model there, import it again or restore the files; then tandem release if \
         the ranks are held.",
    ),
    row(
        "gateway",
        "The gateway ended, or does not answer.",
        "It starts again, with growing pauses; the ranks go on.",
        "Read its log and run tandem config check; then tandem release if it is held.",
    ),
    row(
        "leak_suspected",
        "More memory is wired than all live processes own. Nothing shows that a crash left it.",
        "None yet: it is watched, and confirmed by evidence of a crash or by time.",
        "Close other programs that use the GPU. If it stays, reboot when it suits.",
    ),
    row(
        "leak_confirmed",
        "Wired memory has leaked: a process that held it is gone, and only a reboot gives it back.",
        "Reboot, if the budget allows it.",
        "Reboot: sudo shutdown -r now. Never end a rank with SIGKILL: it is what causes this.",
    ),
    row(
        "memory",
        "There is not enough memory to start the engine.",
        "It does not start until there is.",
        "Close other programs, choose a smaller model, or reboot if memory has leaked.",
    ),
    row(
        "signature",
        "A known signature was found in output, exit code or crash report.",
        "The action that the catalogue gives for it.",
        "tandem explain with the signature's id.",
    ),
    row(
        "panic",
        "The kernel panicked and ended a boot of ours.",
        "None by itself: the boot already came.",
        "Keep the report in /Library/Logs/DiagnosticReports; if it comes back, report it to Apple.",
    ),
    row(
        "reboot_refused",
        "A reboot is needed, and the budget, a hold or the host's settings do not allow it.",
        "None until an operator acts.",
        "Reboot when it suits: sudo shutdown -r now. tandem status says why it was refused.",
    ),
    row(
        "reboot_failed",
        "A reboot was asked for and did not happen, or serving did not come back after it.",
        "None by itself; another reboot for the same cause is refused.",
        "See tandem events of all nodes. It is over once tokens come, or by tandem release.",
    ),
    row(
        "held",
        "The ranks failed too often, or in a way that starting again can't mend.",
        "None until an operator releases it.",
        "Mend what tandem status names, then tandem release.",
    ),
    row(
        "peer_lost",
        "Another machine of the pair is not heard on any way.",
        "Its ranks are not waited for: what runs on goes on, the next epoch waits for it, and the \
         fallback model is served if there is one.",
        "See whether it runs, and both cables; tandem pair status shows what each way says.",
    ),
    row(
        "path_lost",
        "One way to another machine is down while another is up: a cable or a port, not the machine.",
        "Nothing, as long as the ranks reach each other; a cut between them ends the epoch within two \
         seconds, and the next one starts once it is back.",
        "See to that cable; tandem pair status names its address.",
    ),
    row(
        "parity",
        "Another machine differs in what must be equal: config, version, system or the model's files.",
        "No epoch starts, since ranks that differ would answer garbage.",
        "Make equal what tandem status names, file by file and key by key.",
    ),
    row(
        "unpaired",
        "Another machine's key is not known here, so it is neither heard nor believed.",
        "Nothing: who is trusted is for people to say.",
        "tandem pair init on one machine, tandem pair join on the other.",
    ),
    row(
        "fallback",
        "This machine serves the smaller model of [fallback] alone, because another can't take part.",
        "It goes back to the pair's model as soon as all machines can take part for some seconds.",
        "See to the other machine; tandem status says why it can't take part.",
    ),
    row(
        "fabric",
        "The RDMA fabric that engine.backend asks for can't be used: two machines are not joined by \
         devices that are there and active, host.link names another port, or it failed too often.",
        "The next epoch is carried by the TCP ring after supervise.fabric_timeout_ms, or none begins if \
         engine.ring_fallback is off. An epoch that serves is not ended to go back.",
        "See to cables and ports; then tandem drain and tandem resume on the machine with rank 0.",
    ),
    row(
        "config",
        "The config file was changed and the change is wrong. The earlier config is in force.",
        "None: it is read again when the file changes.",
        "tandem config check tells what is wrong.",
    ),
    row(
        "ledger",
        "What the supervisor remembers was lost or can't be written; without it nothing risky is done.",
        "It is written again every turn.",
        "Make room on its disk and see that root can write there.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::counters::FAULT_KINDS;

    #[test]
    fn every_kind_of_fault_is_told() {
        assert_eq!(TABLE.each_ref().map(|told| told.name), FAULT_KINDS);
        for told in &TABLE {
            for text in [told.meaning, told.action, told.remedy] {
                assert!(text.ends_with('.') || text.ends_with("id"), "{}: {text}", told.name);
            }
        }
    }
}
