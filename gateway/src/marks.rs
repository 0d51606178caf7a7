//! The marks in a model's answer that mean something: where its reasoning begins and ends, and where
//! a call of a tool does.
//!
//! In one model's vocabulary they are plain text, in another's special tokens. Decoders leave
//! special tokens out, and with these what they part would run into one. So these are text wherever
//! they stand: reasoning is told from the answer by them, and calls can be read from it.

/// Marks around reasoning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
}

const fn pair(open: &'static str, close: &'static str) -> Pair {
    Pair { open, close }
}

/// Of the families that reason, by their chat templates.
static REASONING: [Pair; 10] = [
    // Qwen 3, DeepSeek R1, GLM, SmolLM 3, MiniMax and most others.
    pair("<think>", "</think>"),
    // Mistral's Magistral and Ministral.
    pair("[THINK]", "[/THINK]"),
    // ByteDance Seed-OSS.
    pair("<seed:think>", "</seed:think>"),
    // Cohere Command A.
    pair("<|START_THINKING|>", "<|END_THINKING|>"),
    // Apertus.
    pair("<|inner_prefix|>", "<|inner_suffix|>"),
    // Kimi VL.
    pair("◁think▷", "◁/think▷"),
    // OpenThinker, and makers of their own fine-tunes.
    pair("<|begin_of_thought|>", "<|end_of_thought|>"),
    pair("<thinking>", "</thinking>"),
    pair("<thought>", "</thought>"),
    pair("<reasoning>", "</reasoning>"),
];

/// Around calls of tools and their parts. Marks of a tool's *results* are not here: a model reads
/// those, it does not write them.
const TOOLS: [&str; 45] = [
    // Qwen, Hermes, SmolLM 3.
    "<tool_call>",
    "</tool_call>",
    "<tool_calls>",
    "</tool_calls>",
    "<function_call>",
    "</function_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    // Llama 3 and 4.
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
    // Mistral.
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    // DeepSeek.
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    // Kimi K2.
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    // Phi 4, Granite, LFM 2.
    "<|tool_call|>",
    "<|/tool_call|>",
    "<|tool_calls|>",
    "<|tool_call_start|>",
    // Cohere.
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    // Apertus.
    "<|tools_prefix|>",
    "<|tools_suffix|>",
    // InternLM.
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
    // MiniMax, Seed-OSS.
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<seed:tool_call>",
    "</seed:tool_call>",
    // Gemma, Jamba, Hunyuan.
    "<start_function_call>",
    "<end_function_call>",
    "<|tool_call_sep|>",
];

/// Whether a special token of this spelling is part of the answer.
pub(crate) fn is_text(spelling: &str) -> bool {
    TOOLS.contains(&spelling)
        || REASONING.iter().any(|pair| pair.open == spelling || pair.close == spelling)
}

/// The marks that a model reasons in: those its chat template names, and those that are tokens of
/// its vocabulary.
pub(crate) fn reasoning_of(
    template: Option<&str>,
    is_token: impl Fn(&str) -> bool,
) -> Vec<&'static Pair> {
    let named = |mark: &str| template.is_some_and(|template| template.contains(mark));
    REASONING
        .iter()
        .filter(|pair| named(pair.open) || named(pair.close) || is_token(pair.open))
        .collect()
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    REASONING.iter().flat_map(|pair| [pair.open, pair.close]).chain(TOOLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_reasons_in_the_marks_of_its_template_and_vocabulary() {
        let opens = |template: Option<&str>, token: &str| -> Vec<&str> {
            reasoning_of(template, |mark| mark == token).iter().map(|pair| pair.open).collect()
        };
        assert_eq!(opens(None, ""), [""; 0]);
        assert_eq!(opens(Some("{{ messages }}"), ""), [""; 0]);
        assert_eq!(opens(Some("x.split('</think>')"), ""), ["<think>"]);
        assert_eq!(opens(Some("<thinking>"), ""), ["<thinking>"], "it is not <think>");
        assert_eq!(opens(Some("<think>"), "[THINK]"), ["<think>", "[THINK]"]);
    }

    #[test]
    fn each_mark_is_there_once() {
        let mut marks: Vec<&str> = all().collect();
        let count = marks.len();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), count);
        assert!(marks.into_iter().all(is_text) && !is_text("<|im_start|>"));
    }
}
