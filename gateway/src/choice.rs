//! From one choice's tokens to what its client sees: detokenise, look for stop strings, tell
//! reasoning from answer. Pure.

use tandem_wire::{Candidate, FinishReason, Token};

use crate::{
    detokenize::Detokenizer,
    reasoning::{ReasoningSplitter, Split},
    stop::StopMatcher,
    tokenizer::TextTokenizer,
};

/// The text side of one choice while it is generated.
pub(crate) struct Choice {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    reasoning: ReasoningSplitter,
    /// Tokens generated so far, end token included.
    pub(crate) tokens: u32,
    /// Characters that left the detokeniser, and those that left the stop matcher.
    chars_decoded: usize,
    chars_passed: usize,
    /// Of tokens whose text has not passed yet.
    held_logprobs: Vec<TokenLogprob>,
}

/// What a client learns anew of a choice.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Delta {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) logprobs: Vec<TokenLogprob>,
}

/// Log-probabilities at one position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    pub(crate) chosen: Spelt,
    pub(crate) top: Vec<Spelt>,
    /// Characters of the choice's text before this token.
    pub(crate) text_offset: usize,
}

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spelt {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
}

impl Delta {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.reasoning.is_empty() && self.content.is_empty() && self.logprobs.is_empty()
    }

    /// Adds what came next.
    pub(crate) fn extend(&mut self, next: Self) {
        self.reasoning.push_str(&next.reasoning);
        self.content.push_str(&next.content);
        self.logprobs.extend(next.logprobs);
    }

    fn add(&mut self, split: Split) {
        self.reasoning.push_str(&split.reasoning);
        self.content.push_str(&split.content);
    }
}

impl Choice {
    pub(crate) fn new(stops: Vec<String>, reasoning: ReasoningSplitter) -> Self {
        Self {
            detokenizer: Detokenizer::default(),
            stop: StopMatcher::new(stops),
            reasoning,
            tokens: 0,
            chars_decoded: 0,
            chars_passed: 0,
            held_logprobs: Vec::new(),
        }
    }

    /// Takes a token. The delta, and whether a stop string ended the choice with it.
    pub(crate) fn push(
        &mut self,
        tokenizer: &TextTokenizer,
        stop_tokens: &[u32],
        token: &Token,
    ) -> (Delta, bool) {
        self.tokens += 1;
        // The end token is not text, even where the tokeniser would spell it.
        if stop_tokens.contains(&token.token) {
            return (Delta::default(), false);
        }
        if let Some(logprob) = token.logprob {
            self.held_logprobs.push(TokenLogprob {
                chosen: spell(tokenizer, Candidate { token: token.token, logprob }),
                top: token.top.iter().map(|&candidate| spell(tokenizer, candidate)).collect(),
                text_offset: self.chars_decoded,
            });
        }
        let text = self.detokenizer.push(token.token, |ids| tokenizer.decode(ids));
        self.decoded(&text)
    }

    /// The engine ended the choice: what is still held back, and how it ended. The last held text
    /// may yet complete a stop string.
    pub(crate) fn finish(
        &mut self,
        tokenizer: &TextTokenizer,
        reason: FinishReason,
    ) -> (Delta, FinishReason) {
        let text = self.detokenizer.finish(|ids| tokenizer.decode(ids));
        let (mut delta, stopped) = self.decoded(&text);
        if stopped {
            return (delta, FinishReason::Stop);
        }
        let rest = self.stop.finish();
        delta.add(self.reasoning.push(&rest));
        delta.add(self.reasoning.finish());
        delta.logprobs.append(&mut self.held_logprobs);
        (delta, reason)
    }

    fn decoded(&mut self, text: &str) -> (Delta, bool) {
        self.chars_decoded += text.chars().count();
        let scan = self.stop.push(text);
        self.chars_passed += scan.text.chars().count();
        let mut delta = Delta::default();
        delta.add(self.reasoning.push(&scan.text));
        if scan.stopped {
            delta.add(self.reasoning.finish());
        }
        let passed = self.chars_passed;
        let ready = self.held_logprobs.iter().take_while(|held| held.text_offset < passed).count();
        delta.logprobs.extend(self.held_logprobs.drain(..ready));
        (delta, scan.stopped)
    }
}

fn spell(tokenizer: &TextTokenizer, candidate: Candidate) -> Spelt {
    let (text, bytes) = tokenizer.spell(candidate.token);
    Spelt { text, bytes, logprob: candidate.logprob }
}
