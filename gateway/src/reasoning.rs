//! Tells a model's reasoning (`<think>…</think>` or the like at the start of its answer) from the
//! answer.
//!
//! ```text
//!   Start ──open──▶ Reasoning ──close──▶ Answer
//!     └────anything else───────────────────▲
//! ```
//!
//! A template may open the tag itself in the generation prompt; then the answer begins in
//! `Reasoning`. A tag later in the answer is text: the model may be talking about it.

use crate::marks::Pair;

/// Splits a text that comes in pieces.
#[derive(Clone, Debug)]
pub(crate) struct ReasoningSplitter {
    /// The marks that may open it.
    pairs: Vec<&'static Pair>,
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// Until this mark.
    Reasoning(&'static str),
    /// Right after a tag, where white space belongs to nobody.
    ReasoningBegins(&'static str),
    AnswerBegins,
    Answer,
}

/// A piece of text, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Text between the tags.
    pub(crate) reasoning: String,
    /// All other text.
    pub(crate) content: String,
}

impl ReasoningSplitter {
    /// For a model that does not reason: all is content.
    pub(crate) fn off() -> Self {
        Self { pairs: Vec::new(), state: State::Answer, held: String::new() }
    }

    /// For the answer to a rendered prompt, which may end in an opened tag.
    pub(crate) fn after(prompt: &str, pairs: &[&'static Pair]) -> Self {
        let end = prompt.trim_end();
        let state = match pairs.iter().find(|pair| end.ends_with(pair.open)) {
            Some(pair) => State::ReasoningBegins(pair.close),
            None if pairs.is_empty() => State::Answer,
            None => State::Start,
        };
        Self { pairs: pairs.to_vec(), state, held: String::new() }
    }

    /// For what follows on the beginning of an answer, at the prompt's end: it may be still in its
    /// reasoning.
    pub(crate) fn within(begun: &str, prompt: &str, pairs: &[&'static Pair]) -> Self {
        let begun = begun.trim();
        let before = prompt.trim_end();
        let before = before.strip_suffix(begun).unwrap_or(before);
        let mut splitter = Self::after(before, pairs);
        if begun.is_empty() {
            return splitter;
        }
        let opened = match splitter.state {
            State::ReasoningBegins(close) => Some((close, begun)),
            _ => pairs.iter().find_map(|pair| Some((pair.close, begun.strip_prefix(pair.open)?))),
        };
        splitter.state = match opened {
            Some((close, "")) => State::ReasoningBegins(close),
            Some((close, thought)) if !thought.contains(close) => State::Reasoning(close),
            _ => State::Answer,
        };
        splitter
    }

    /// Takes the next piece; gives what is certain.
    pub(crate) fn push(&mut self, piece: &str) -> Split {
        self.held.push_str(piece);
        let mut split = Split::default();
        // Each turn moves on to a later state, so there are at most five.
        loop {
            match self.state {
                State::Start => {
                    let text = self.held.trim_start();
                    let opened = self
                        .pairs
                        .iter()
                        .find_map(|pair| Some((pair.close, text.strip_prefix(pair.open)?)));
                    if let Some((close, rest)) = opened {
                        self.held = rest.to_owned();
                        self.state = State::ReasoningBegins(close);
                    } else if self.pairs.iter().any(|pair| pair.open.starts_with(text)) {
                        return split;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::ReasoningBegins(_) | State::AnswerBegins => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return split;
                    }
                    self.state = match self.state {
                        State::ReasoningBegins(close) => State::Reasoning(close),
                        _ => State::Answer,
                    };
                }
                State::Reasoning(close) => {
                    if let Some(at) = self.held.find(close) {
                        split.reasoning.push_str(&self.held[..at]);
                        self.held.drain(..at + close.len());
                        self.state = State::AnswerBegins;
                    } else {
                        let keep = open_suffix(&self.held, close);
                        let rest = self.held.split_off(self.held.len() - keep);
                        split.reasoning.push_str(&std::mem::replace(&mut self.held, rest));
                        return split;
                    }
                }
                State::Answer => {
                    split.content.push_str(&std::mem::take(&mut self.held));
                    return split;
                }
            }
        }
    }

    /// The text ended: what was held back goes where it stands.
    pub(crate) fn finish(&mut self) -> Split {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Reasoning(_) | State::ReasoningBegins(_) => {
                Split { reasoning: held, ..Split::default() }
            }
            _ => Split { content: held, ..Split::default() },
        }
    }
}

/// Length of the longest end of a text that begins the mark.
fn open_suffix(text: &str, mark: &str) -> usize {
    let begins = |n: &usize| mark.is_char_boundary(*n) && text.ends_with(&mark[..*n]);
    (1..mark.len()).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::reasoning_of;

    const TEMPLATE: &str = "<think> [THINK] ◁think▷ <thinking>";

    fn pairs() -> Vec<&'static Pair> {
        reasoning_of(Some(TEMPLATE), |_| false)
    }

    /// The whole split of a text fed in pieces of every size: they must all agree.
    fn split(from: &ReasoningSplitter, text: &str) -> (String, String) {
        let chars: Vec<char> = text.chars().collect();
        let mut results = Vec::new();
        for size in 1..=chars.len().max(1) {
            let mut splitter = from.clone();
            let mut whole = Split::default();
            let mut add = |part: Split| {
                whole.reasoning += &part.reasoning;
                whole.content += &part.content;
            };
            for piece in chars.chunks(size) {
                add(splitter.push(&piece.iter().collect::<String>()));
            }
            add(splitter.finish());
            results.push((whole.reasoning, whole.content));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{text:?}: {results:?}");
        results.remove(0)
    }

    fn answer(prompt: &str, text: &str) -> (String, String) {
        split(&ReasoningSplitter::after(prompt, &pairs()), text)
    }

    fn pair(reasoning: &str, content: &str) -> (String, String) {
        (reasoning.into(), content.into())
    }

    #[test]
    fn tags_at_the_start_are_taken_out_however_the_text_is_cut() {
        assert_eq!(answer("", "<think>\nhm</think>\n\nYes."), pair("hm", "Yes."));
        assert_eq!(answer("", "\n<think>a<b</thin</think>c"), pair("a<b</thin", "c"));
        assert_eq!(answer("", "<think></think>c"), pair("", "c"));
        assert_eq!(answer("", "[THINK]a</think>b[/THINK]c"), pair("a</think>b", "c"));
        assert_eq!(answer("", "◁think▷a◁/th◁/think▷ c"), pair("a◁/th", "c"));
        assert_eq!(answer("", "<thinking>a</think>b</thinking>c"), pair("a</think>b", "c"));
    }

    #[test]
    fn a_prompt_that_opens_the_tag_starts_in_reasoning() {
        assert_eq!(answer("<|assistant|>\n<think>\n", "hm</think>Yes."), pair("hm", "Yes."));
        assert_eq!(answer("<think>\n\n</think>\n\n", "hm</think>"), pair("", "hm</think>"));
        assert_eq!(answer("x<think>", "hm</thi"), pair("hm</thi", ""));
        assert_eq!(answer("[THINK]", "hm[/THINK]Yes."), pair("hm", "Yes."));
    }

    #[test]
    fn a_continued_answer_goes_on_where_it_was() {
        let go_on = |begun: &str, text: &str| {
            split(&ReasoningSplitter::within(begun, &format!("<|a|>{begun}"), &pairs()), text)
        };
        assert_eq!(go_on("", "<think>a</think>b"), pair("a", "b"));
        assert_eq!(go_on("The", " <think>a</think>"), pair("", " <think>a</think>"));
        assert_eq!(go_on("<think>so", " far</think>b"), pair(" far", "b"));
        assert_eq!(go_on("<think>", "\nso</think>b"), pair("so", "b"));
        assert_eq!(go_on("<think>a</think>b", " <think>"), pair("", " <think>"));
        assert_eq!(go_on("Say <think>", "a"), pair("", "a"));
        let opened = ReasoningSplitter::within("so", "<|a|><think>\nso", &pairs());
        assert_eq!(split(&opened, " far</think>b"), pair(" far", "b"));
        let off = ReasoningSplitter::within("<think>a", "<think>a", &[]);
        assert_eq!(split(&off, "b</think>"), pair("", "b</think>"));
    }

    #[test]
    fn tags_elsewhere_are_text() {
        assert_eq!(answer("", "Use <think>x</think>."), pair("", "Use <think>x</think>."));
        assert_eq!(answer("", "  <thin air"), pair("", "  <thin air"));
        assert_eq!(answer("", "<thi"), pair("", "<thi"));
        assert_eq!(answer("", "<seed:think>x"), pair("", "<seed:think>x"), "not this model's");
        let off = ReasoningSplitter::off();
        assert_eq!(split(&off, "<think>a</think>"), pair("", "<think>a</think>"));
    }
}
