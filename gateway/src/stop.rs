//! Stop strings, found wherever they lie across the borders of tokens.

/// Watches a text that comes in pieces for the first of several strings.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far, as far as it could begin a stop string.
    held: String,
}

/// What one piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Text that is certainly not part of a stop string.
    pub(crate) text: String,
    /// Whether a stop string was found right after `text`.
    pub(crate) stopped: bool,
}

impl StopMatcher {
    /// Empty strings never stop anything.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Takes the next piece; gives what may be sent.
    pub(crate) fn push(&mut self, piece: &str) -> Scan {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return Scan { text, stopped: true };
        }
        let keep = self.open_suffix();
        let rest = self.held.split_off(self.held.len() - keep);
        Scan { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The text ended: what was held back is text after all.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length in bytes of the longest end of the held text that begins a stop string.
    fn open_suffix(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let start = self.held.len().saturating_sub(longest.saturating_sub(1));
        (start..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces in, sent pieces out; a stop ends with `|`.
    fn run(stops: &[&str], pieces: &[&str]) -> Vec<String> {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let mut sent = Vec::new();
        for piece in pieces {
            let scan = matcher.push(piece);
            if scan.stopped {
                sent.push(scan.text + "|");
                return sent;
            }
            sent.push(scan.text);
        }
        sent.push(matcher.finish());
        sent
    }

    #[test]
    fn a_stop_is_found_across_pieces_and_nothing_of_it_is_sent() {
        assert_eq!(run(&["END"], &["one E", "N", "D two"]), ["one ", "", "|"]);
        assert_eq!(run(&["END"], &["E", "EN", "DEND"]), ["", "E", "|"]);
        assert_eq!(run(&["\n\n"], &["a\n", "\nb"]), ["a", "|"]);
    }

    #[test]
    fn what_only_began_like_a_stop_is_sent_late_but_whole() {
        assert_eq!(run(&["END"], &["EN", "d"]), ["", "ENd", ""]);
        assert_eq!(run(&["END"], &["xE"]), ["x", "E"]);
    }

    #[test]
    fn the_earliest_of_several_stops_wins_and_characters_are_never_split() {
        assert_eq!(run(&["b", "ab"], &["xab"]), ["x|"]);
        assert_eq!(run(&["日本語"], &["は日", "本", "人"]), ["は", "", "日本人", ""]);
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ["caf", "", "é?", ""]);
    }

    #[test]
    fn without_stops_all_passes_at_once() {
        assert_eq!(run(&[], &["a", "b"]), ["a", "b", ""]);
        assert_eq!(run(&[""], &["a"]), ["a", ""]);
    }
}
