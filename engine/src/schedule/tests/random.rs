//! Days of random requests, cancellations and collections: all follows from the seed, which a
//! failure names.

use super::*;

/// Xorshift: the whole day follows from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn submit(&mut self, id: u64) -> Submit {
        let vocab = u64::from(LIMITS.vocab_size);
        let prompt: Vec<u32> = (0..=self.below(20)).map(|_| self.below(vocab) as u32).collect();
        let mut submit = request(id, &prompt, 1 + self.below(25) as u32);
        submit.stop_tokens = (0..self.below(6)).map(|_| self.below(vocab) as u32).collect();
        let (whole, _) = undisturbed(&submit);
        let cut = self.below(2) * self.below(whole.len() as u64 + 1);
        submit.generated = whole[..cut as usize].to_vec();
        submit
    }
}

#[test]
fn whatever_the_order_every_request_gets_the_tokens_of_an_undisturbed_run() {
    for seed in 1..=400 {
        random_day(seed);
    }
}

fn random_day(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Memory for one, two or three requests at once, which is at most what there are slots for.
    let kv_tokens = 256 * (1 + seed % 3);
    let mut day = Day::of(Limits { kv_tokens, ..LIMITS });
    let mut submitted = BTreeMap::new();
    let mut cancelled = Vec::new();
    for turn in 0..300 {
        let connection = random.below(3);
        match random.below(12) {
            0..3 => {
                let submit = random.submit(turn);
                submitted.insert(RequestKey { connection, id: turn }, submit.clone());
                day.submit(connection, submit);
            }
            3 => {
                let key = RequestKey { connection, id: random.below(turn + 1) };
                day.scheduler.cancel(key);
                cancelled.push(key);
            }
            4 if random.below(10) == 0 => {
                day.scheduler.drop_connection(connection);
                cancelled.extend(submitted.keys().filter(|k| k.connection == connection));
            }
            4..8 => drop(day.dispatch()),
            _ if !day.pending.is_empty() => day.collect(),
            _ => {}
        }
        assert!(day.scheduler.queued() <= LIMITS.max_queued + LIMITS.max_active, "seed {seed}");
    }
    day.finish();
    assert!(day.fake.slots.is_empty(), "seed {seed}: a slot was never released");
    assert_eq!((day.scheduler.active(), day.scheduler.queued()), (0, 0), "seed {seed}");
    for (key, submit) in &submitted {
        let (expected, reason) = undisturbed(submit);
        let text = day.text(key.connection, key.id);
        match day.ends.get(key) {
            Some(FromRank::Done { reason: got, .. }) => {
                assert_eq!((&text, got), (&expected, &reason), "seed {seed}, {key:?}");
            }
            Some(FromRank::Failed { code, .. }) => {
                assert_eq!((*code, text.len()), (FailureCode::Full, 0), "seed {seed}, {key:?}");
            }
            _ => {
                assert!(cancelled.contains(key), "seed {seed}: {key:?} never ended");
                assert!(expected.starts_with(&text), "seed {seed}, {key:?}");
            }
        }
        let indexes = day.tokens.get(key).into_iter().flatten().map(|t| t.index as usize);
        assert!(indexes.eq(submit.generated.len()..submit.generated.len() + text.len()));
    }
}
