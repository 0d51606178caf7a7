//! Text out of tokens, one token at a time, without ever splitting a character.
//!
//! A token may end inside a UTF-8 character, and decoders look at neighbours (they drop the space
//! before the first word). So a window of the last tokens is decoded anew each time and only what
//! it grew by is given out; a window that ends in U+FFFD may be inside a character and holds that
//! end back. The window starts at the last token border where the text was whole.

/// Most tokens in a window. More without one whole character at a border is not text; giving it
/// out as it is keeps the cost of a token constant.
const WINDOW_TOKENS_MAX: usize = 256;

const INCOMPLETE: char = '\u{fffd}';

/// Decodes one completion as it grows.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    window: Vec<u32>,
    /// How many tokens of the window were there before the last border with whole text; they are
    /// only kept as the context of the next ones.
    context: usize,
    /// What of the window's text was given out.
    given: String,
}

impl Detokenizer {
    /// Adds a token; gives the text that is now certain. `decode` turns ids into text.
    pub(crate) fn push(&mut self, token: u32, decode: impl Fn(&[u32]) -> String) -> String {
        self.window.push(token);
        let text = decode(&self.window);
        let whole = text.trim_end_matches(INCOMPLETE);
        if self.window.len() - self.context > WINDOW_TOKENS_MAX {
            let rest = self.rest(&text, &decode);
            *self = Self::default();
            return rest;
        }
        // Not a prefix: a decoder that takes back bytes it can't place yet. They come whole later.
        let Some(delta) = whole.strip_prefix(self.given.as_str()).map(str::to_owned) else {
            return String::new();
        };
        if delta.is_empty() {
            return delta;
        }
        if whole.len() == text.len() {
            self.window.drain(..self.context);
            self.context = self.window.len();
            self.given = decode(&self.window);
        } else {
            self.given.push_str(&delta);
        }
        delta
    }

    /// The completion ended: gives what was held back, broken characters as U+FFFD.
    pub(crate) fn finish(&mut self, decode: impl Fn(&[u32]) -> String) -> String {
        let text = decode(&self.window);
        let rest = self.rest(&text, decode);
        *self = Self::default();
        rest
    }

    fn rest(&self, text: &str, decode: impl Fn(&[u32]) -> String) -> String {
        match text.strip_prefix(self.given.as_str()) {
            Some(rest) => rest.to_owned(),
            None => decode(self.window.get(self.context..).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are bytes; the decoder drops one leading space, as SentencePiece's does.
    fn decode(ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.strip_prefix(' ').map(str::to_owned).unwrap_or(text)
    }

    fn deltas(bytes: &[u8]) -> Vec<String> {
        let mut detokenizer = Detokenizer::default();
        let mut deltas: Vec<String> =
            bytes.iter().map(|&b| detokenizer.push(b.into(), decode)).collect();
        deltas.push(detokenizer.finish(decode));
        deltas
    }

    #[test]
    fn characters_come_whole_and_spaces_survive() {
        let text = " a  b é 日本 👩‍🚀\n c";
        let deltas = deltas(text.as_bytes());
        assert_eq!(deltas.concat(), text[1..]);
        assert!(deltas.iter().all(|delta| !delta.contains(INCOMPLETE)), "{deltas:?}");
    }

    #[test]
    fn broken_bytes_come_out_once_whatever_they_are() {
        for bytes in [&b"a\xff\xfeb"[..], b"\xe2\x82", b"x\xf0\x9f", b"\x80\x80 y", b"\xe2\x82ab"] {
            let ids: Vec<u32> = bytes.iter().map(|&b| b.into()).collect();
            assert_eq!(deltas(bytes).concat(), decode(&ids), "{bytes:?}");
        }
    }

    #[test]
    fn garbage_without_end_is_given_out_in_bounded_windows() {
        let garbage = vec![0x80; 3 * WINDOW_TOKENS_MAX];
        let deltas = deltas(&garbage);
        assert_eq!(deltas.concat().chars().count(), garbage.len());
        assert!(deltas[..WINDOW_TOKENS_MAX + 2].iter().any(|delta| !delta.is_empty()));
    }
}
