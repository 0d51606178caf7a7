//! Text to token ids within bounds: what can't fit the context is refused before it costs a core for
//! seconds and gigabytes, and what nobody waits for any more is not read on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{error::ApiError, tokenizer::TextTokenizer};

/// A text of more bytes for each token of the context is counted before it is read whole: most have
/// three to five for each.
const SUSPICIOUS_BYTES: usize = 3;

/// How much is counted at a time.
const PIECE_BYTES: usize = 64 << 10;

/// How one prompt may be read.
pub(crate) struct Reading {
    context_tokens: u32,
    token_bytes_max: Option<usize>,
    piece_bytes: usize,
    abandoned: Arc<AtomicBool>,
}

/// Whoever waits for a [`Reading`]. Dropping it abandons that.
pub(crate) struct Reader(Arc<AtomicBool>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For a model of this context, of whose text one token stands for so many bytes at most, if that is
/// bounded.
pub(crate) fn begin(context_tokens: u32, token_bytes_max: Option<usize>) -> (Reading, Reader) {
    let abandoned = Arc::<AtomicBool>::default();
    let reader = Reader(Arc::clone(&abandoned));
    (Reading { context_tokens, token_bytes_max, piece_bytes: PIECE_BYTES, abandoned }, reader)
}

impl Reading {
    /// Ids of a text, as [`TextTokenizer::encode`] gives them. `param` names the field it is from.
    pub(crate) fn encode(
        &self,
        tokenizer: &TextTokenizer,
        text: &str,
        add_special: bool,
        param: &str,
    ) -> Result<Vec<u32>, ApiError> {
        let too_long = || ApiError::prompt_too_long(param, self.context_tokens);
        let context_tokens = self.context_tokens as usize;
        let bytes_max = self.token_bytes_max.map(|max| max.saturating_mul(context_tokens));
        if bytes_max.is_some_and(|max| text.len() > max) {
            return Err(too_long());
        }
        if text.len() > SUSPICIOUS_BYTES * context_tokens && self.is_surely_over(tokenizer, text)? {
            return Err(too_long());
        }
        self.check_reader()?;
        tokenizer.encode(text, add_special).map_err(ApiError::internal)
    }

    /// Counts the tokens in pieces, and no further than needed. A cut costs some tokens more than the
    /// whole text has, so only what is well over the context is surely over.
    fn is_surely_over(&self, tokenizer: &TextTokenizer, text: &str) -> Result<bool, ApiError> {
        let enough = self.context_tokens as usize * 5 / 4 + 64;
        let (mut tokens, mut start) = (0, 0);
        while start < text.len() {
            self.check_reader()?;
            let mut end = text.len().min(start + self.piece_bytes);
            while !text.is_char_boundary(end) {
                end += 1;
            }
            let piece = &text[start..end];
            tokens += tokenizer.encode(piece, false).map_err(ApiError::internal)?.len();
            if tokens > enough {
                return Ok(true);
            }
            start = end;
        }
        Ok(false)
    }

    /// An error that nobody hears, if nobody waits any more.
    fn check_reader(&self) -> Result<(), ApiError> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(ApiError::invalid("The client is gone."));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model_folder, test_model_dir};

    fn tokenizers() -> Vec<TextTokenizer> {
        let dir = tempfile::tempdir().unwrap();
        model_folder::write(dir.path());
        let mut all = vec![TextTokenizer::load(dir.path()).unwrap()];
        all.extend(test_model_dir().map(|dir| TextTokenizer::load(&dir).unwrap()));
        all
    }

    /// Texts of one kind each, of about so many bytes: what has few tokens for its bytes, and what
    /// has many.
    fn texts(bytes: usize) -> Vec<String> {
        let words = [
            " the quick brown fox",
            "\u{1f680}",
            "e\u{301}",
            "\u{65e5}\u{672c}\u{8a9e}",
            "aaaaaaaaaaaaaaa",
            "<|im_end|>",
            "                                ",
            "\n",
            "\u{fffd}\u{0}",
            "0123456789",
            "\u{1100}\u{1161}\u{11a8}",
            "x ",
        ];
        words.iter().map(|word| word.repeat(bytes / word.len() + 1)).collect()
    }

    #[test]
    fn what_fits_is_read_exactly_and_only_what_does_not_is_refused() {
        for tokenizer in tokenizers() {
            let token_bytes_max = tokenizer.token_bytes_max();
            assert!(token_bytes_max.is_some_and(|max| max >= 4), "{token_bytes_max:?}");
            for bound in [token_bytes_max, None] {
                let mut refused = 0;
                for text in [1, 100, 700, 1_500, 4_000, 40_000].into_iter().flat_map(texts) {
                    let (mut reading, _reader) = begin(200, bound);
                    reading.piece_bytes = 300;
                    let ids = tokenizer.encode(&text, false).unwrap();
                    match reading.encode(&tokenizer, &text, false, "prompt") {
                        Ok(read) => assert_eq!(read, ids),
                        Err(error) => {
                            refused += 1;
                            assert_eq!(error.code, Some("context_length_exceeded"));
                            assert!(ids.len() > 200, "{} tokens of {:?}", ids.len(), &text[..1]);
                        }
                    }
                    // What costs seconds is never read to its end.
                    assert!(
                        ids.len() < 400 || reading.encode(&tokenizer, &text, false, "p").is_err()
                    );
                }
                assert!(refused > 10, "{refused}");
            }
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_read() {
        let tokenizer = tokenizers().remove(0);
        for text in texts(10_000).iter().chain(&texts(10)) {
            let (reading, reader) = begin(100_000, None);
            drop(reader);
            let error = reading.encode(&tokenizer, text, false, "prompt").unwrap_err();
            assert!(error.message.contains("gone"), "{error:?}");
        }
    }
}
