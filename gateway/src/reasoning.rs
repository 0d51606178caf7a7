//! Tells a model's reasoning (`<think>…</think>` at the start of its answer) from the answer.
//!
//! ```text
//!   Start ──<think>──▶ Reasoning ──</think>──▶ Answer
//!     └────anything else────────────────────────▲
//! ```
//!
//! A template may open the tag itself in the generation prompt; then the answer begins in
//! `Reasoning`. A tag later in the answer is text: the model may be talking about it.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits a text that comes in pieces.
#[derive(Debug)]
pub(crate) struct ReasoningSplitter {
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Reasoning,
    /// Right after a tag, where white space belongs to nobody.
    ReasoningBegins,
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

/// Whether a rendered prompt ends inside an opened reasoning tag.
pub(crate) fn prompt_opens_reasoning(prompt: &str) -> bool {
    prompt.trim_end().ends_with(OPEN)
}

/// Whether a chat template belongs to a model that reasons in tags.
pub(crate) fn template_knows_reasoning(template: &str) -> bool {
    template.contains(OPEN) || template.contains(CLOSE)
}

impl ReasoningSplitter {
    /// For a model that does not reason: all is content.
    pub(crate) fn off() -> Self {
        Self { state: State::Answer, held: String::new() }
    }

    /// `opened`: the prompt already holds the opening tag.
    pub(crate) fn new(opened: bool) -> Self {
        let state = if opened { State::ReasoningBegins } else { State::Start };
        Self { state, held: String::new() }
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
                    if let Some(rest) = text.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.state = State::ReasoningBegins;
                    } else if OPEN.starts_with(text) {
                        return split;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::ReasoningBegins | State::AnswerBegins => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return split;
                    }
                    self.state = match self.state {
                        State::ReasoningBegins => State::Reasoning,
                        _ => State::Answer,
                    };
                }
                State::Reasoning => {
                    if let Some(at) = self.held.find(CLOSE) {
                        split.reasoning.push_str(&self.held[..at]);
                        self.held.drain(..at + CLOSE.len());
                        self.state = State::AnswerBegins;
                    } else {
                        let rest = self.held.split_off(self.held.len() - self.open_suffix());
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
            State::Reasoning | State::ReasoningBegins => {
                Split { reasoning: held, ..Split::default() }
            }
            _ => Split { content: held, ..Split::default() },
        }
    }

    /// Length of the longest end of the held text that begins the closing tag.
    fn open_suffix(&self) -> usize {
        (1..CLOSE.len()).rev().find(|&n| self.held.ends_with(&CLOSE[..n])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole split of a text fed in pieces of every size: they must all agree.
    fn split(opened: bool, text: &str) -> (String, String) {
        let chars: Vec<char> = text.chars().collect();
        let mut results = Vec::new();
        for size in 1..=chars.len().max(1) {
            let mut splitter = ReasoningSplitter::new(opened);
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

    fn pair(reasoning: &str, content: &str) -> (String, String) {
        (reasoning.into(), content.into())
    }

    #[test]
    fn tags_at_the_start_are_taken_out_however_the_text_is_cut() {
        assert_eq!(split(false, "<think>\nhm</think>\n\nYes."), pair("hm", "Yes."));
        assert_eq!(split(false, "\n<think>a<b</thin</think>c"), pair("a<b</thin", "c"));
        assert_eq!(split(false, "<think></think>c"), pair("", "c"));
    }

    #[test]
    fn a_prompt_that_opens_the_tag_starts_in_reasoning() {
        assert!(prompt_opens_reasoning("<|assistant|>\n<think>\n"));
        assert!(!prompt_opens_reasoning("<think>\n\n</think>\n\n"));
        assert_eq!(split(true, "hm</think>Yes."), pair("hm", "Yes."));
        assert_eq!(split(true, "hm</thi"), pair("hm</thi", ""));
    }

    #[test]
    fn tags_elsewhere_are_text() {
        assert_eq!(split(false, "Use <think>x</think>."), pair("", "Use <think>x</think>."));
        assert_eq!(split(false, "  <thin air"), pair("", "  <thin air"));
        assert_eq!(split(false, "<thi"), pair("", "<thi"));
        let mut off = ReasoningSplitter::off();
        assert_eq!(off.push("<think>a</think>").content, "<think>a</think>");
    }
}
