use super::*;

const DAY_MS: u64 = 86_400_000;

fn at_start() -> Moment {
    Moment { boot_ms: 1, wall_ms: 1 }
}

fn setup(configured: u32) -> Setup {
    Setup { prefill_step_tokens: configured, ..Setup::default() }
}

fn lowered(tokens: u32, epoch: u64) -> State {
    let retune = Retune { model: "default".into(), prefill_step_tokens: tokens, epoch };
    State { retune: Some(retune), epoch, ..State::new("boot") }
}

#[test]
fn the_step_is_the_lowered_one_of_this_model_and_never_above_the_configured() {
    let other = |tokens| {
        let mut state = lowered(tokens, 1);
        state.retune.as_mut().unwrap().model = "another".into();
        state
    };
    let rows = [
        (512, State::new("boot"), 512),
        (512, lowered(128, 1), 128),
        (64, lowered(128, 1), 64),
        (512, lowered(0, 1), 32),
        (16, lowered(128, 1), 16),
        (512, other(128), 512),
    ];
    for (configured, state, expected) in rows {
        assert_eq!(step_tokens(&setup(configured), &state), expected, "{:?}", state.retune);
    }
}

#[test]
fn every_epoch_that_runs_out_of_memory_halves_the_step_once_down_to_the_least() {
    let setup = setup(512);
    let mut state = State::new("boot");
    let mut steps = Vec::new();
    for epoch in 1..=6 {
        let first = lower(&setup, &mut state, epoch);
        let again = lower(&setup, &mut state, epoch);
        assert_eq!(first, again, "epoch {epoch}");
        steps.push((step_tokens(&setup, &state), first));
    }
    let expected = [(256, true), (128, true), (64, true), (32, true), (32, false), (32, false)];
    assert_eq!(steps, expected);
}

#[test]
fn a_configured_step_at_or_below_the_least_is_not_lowered() {
    for configured in [1, 16, 32] {
        let mut state = State::new("boot");
        assert!(!lower(&setup(configured), &mut state, 1));
        assert_eq!(state.retune, None);
    }
}

#[test]
fn a_step_is_raised_only_after_a_long_run_that_did_not_run_out() {
    let raised = |tokens, ran_out, new_epoch, served_ms| {
        let mut state = State { epoch: new_epoch, ..lowered(tokens, ran_out) };
        raise(&setup(512), &mut state, served_ms, at_start());
        (step_tokens(&setup(512), &state), state.retune.is_some())
    };
    let rows = [
        (raised(128, 4, 6, DAY_MS), (256, true), "epoch 5 served long"),
        (raised(128, 4, 6, DAY_MS - 1), (128, true), "not long enough"),
        (raised(128, 5, 6, DAY_MS), (128, true), "epoch 5 itself ran out"),
        (raised(256, 4, 6, DAY_MS), (512, false), "back at the configured"),
        (raised(300, 4, 6, DAY_MS), (512, false), "above the configured"),
    ];
    for (got, expected, story) in rows {
        assert_eq!(got, expected, "{story}");
    }
}

#[test]
fn another_model_leaves_the_memory_alone_until_it_runs_out_itself() {
    let mut another = setup(512);
    another.model = "another".into();
    let mut state = State { epoch: 9, ..lowered(128, 1) };
    raise(&another, &mut state, DAY_MS, at_start());
    assert_eq!(step_tokens(&setup(512), &state), 128, "the first model's step is still known");
    assert!(lower(&another, &mut state, 9));
    assert_eq!(step_tokens(&another, &state), 256);
    assert_eq!(step_tokens(&setup(512), &state), 512, "one is remembered: the last");
}
