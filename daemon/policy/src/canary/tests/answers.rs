//! What working models say, and what only broken ones do.

use super::judge;

#[test]
fn answers_of_working_models_pass_however_small_the_model() {
    let answers = [
        "Paris",
        "The capital of France is Paris.",
        "I'm a chatbot",
        "1, 2, 3, 4",
        "\n\nThe",
        "\n\n",
        "        return 4",
        "4",
        ".....",
        "Haha",
        "no, no, no",
        "bye bye",
        "Yes, yes, yes, I can.",
        "Hello! \u{1F60A}",
        // Eight tokens ended within a character.
        "Hello! \u{FFFD}",
        "Hello! \u{FFFD}\u{FFFD}\u{FFFD}",
        "A character such as \u{FFFD} stands for what can't be read.",
        "\u{4F60}\u{597D}\u{FF01}",
        "<think>\nOkay, the user",
        "{\"answer\": 4}",
        "```python\nprint(",
        "100000",
        "Aaaaah, I see",
        "a\tb\r\nc",
    ];
    for answer in answers {
        assert_eq!(judge(answer, 8), Ok(()), "{answer:?}");
    }
}

#[test]
fn what_no_working_model_says_is_garbage() {
    let rows = [
        ("", "no tokens"),
        ("!!!!!!!!", "repeats \"!\""),
        ("!!!!!!!!!!!!!!!!a", "repeats \"!\""),
        ("\n\n\n\n\n\n\n\n", "repeats \"\\n\""),
        ("the the the the ", "repeats \"the \""),
        ("no, no, no, no, ", "repeats \"no, \""),
        ("ababababab", "repeats \"ab\""),
        ("\u{54C8}\u{54C8}\u{54C8}\u{54C8}\u{54C8}\u{54C8}\u{54C8}\u{54C8}", "repeats"),
        ("\u{FFFD}", "UTF-8"),
        ("a\u{FFFD}b\u{FFFD}c", "UTF-8"),
        ("ab\u{FFFD}cd", "UTF-8"),
        ("Par\u{0}is", "U+0000"),
        ("Par\u{1b}[0mis", "U+001B"),
        ("Par\u{9f}is", "U+009F"),
    ];
    for (answer, expected) in rows {
        let why = judge(answer, 8).expect_err(answer);
        assert!(why.contains(expected), "{answer:?}: {why}");
    }
    assert!(judge("Paris", 0).is_err(), "a text without tokens is no answer");
}
