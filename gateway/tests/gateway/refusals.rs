//! Every kind of bad request gets the status, the field and the code that name its fault, and
//! none of them reaches the engine.

use serde_json::{Value, json};

use super::server::{Gateway, Says, chat_body, completion_body};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// Path, changes to a good request, and the refusal: status, param, code.
fn table() -> Vec<(&'static str, Value, u16, &'static str, &'static str)> {
    let bad = "invalid_value";
    let unsupported = "unsupported_parameter";
    vec![
        (CHAT, json!({"model": "gpt-5"}), 404, "model", "model_not_found"),
        (TEXT, json!({"model": "../../etc"}), 404, "model", "model_not_found"),
        (CHAT, json!({"model": null}), 400, "model", bad),
        (CHAT, json!({"model": 7}), 400, "model", bad),
        (CHAT, json!({"messages": null}), 400, "messages", bad),
        (CHAT, json!({"messages": []}), 400, "messages", bad),
        (CHAT, json!({"messages": "Hi"}), 400, "messages", bad),
        (CHAT, json!({"messages": ["Hi"]}), 400, "messages[0]", bad),
        (
            CHAT,
            json!({"messages": [{"role": "king", "content": "a"}]}),
            400,
            "messages[0].role",
            bad,
        ),
        (CHAT, json!({"messages": [{"role": "user"}]}), 400, "messages[0].content", bad),
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": 1}]}),
            400,
            "messages[0].content",
            bad,
        ),
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": "data:"}},
            ]}]}),
            400,
            "messages[0].content[1]",
            bad,
        ),
        (CHAT, json!({"messages": [{"role": "user", "content": "raise"}]}), 400, "messages", bad),
        (CHAT, json!({"temperature": 2.1}), 400, "temperature", bad),
        (CHAT, json!({"temperature": "hot"}), 400, "temperature", bad),
        (CHAT, json!({"top_p": -0.1}), 400, "top_p", bad),
        (CHAT, json!({"top_k": -2}), 400, "top_k", bad),
        (CHAT, json!({"min_p": 1.5}), 400, "min_p", bad),
        (CHAT, json!({"repetition_penalty": 0}), 400, "repetition_penalty", bad),
        (CHAT, json!({"presence_penalty": 3}), 400, "presence_penalty", bad),
        (CHAT, json!({"frequency_penalty": -2.5}), 400, "frequency_penalty", bad),
        (CHAT, json!({"logit_bias": {"a": 1}}), 400, "logit_bias", bad),
        (CHAT, json!({"logit_bias": {"1": 101}}), 400, "logit_bias", bad),
        (CHAT, json!({"logit_bias": {"600": 1}}), 400, "logit_bias", bad),
        (CHAT, json!({"seed": 1.5}), 400, "seed", bad),
        (CHAT, json!({"n": 0}), 400, "n", bad),
        (CHAT, json!({"n": 9}), 400, "n", bad),
        (CHAT, json!({"stop": ["1", "2", "3", "4", "5"]}), 400, "stop", bad),
        (CHAT, json!({"stop": [""]}), 400, "stop", bad),
        (CHAT, json!({"stop": 5}), 400, "stop", bad),
        (CHAT, json!({"max_tokens": 0}), 400, "max_tokens", bad),
        (CHAT, json!({"max_completion_tokens": -1}), 400, "max_completion_tokens", bad),
        (CHAT, json!({"max_tokens": 1, "max_completion_tokens": 2}), 400, "max_tokens", bad),
        (CHAT, json!({"stream": "yes"}), 400, "stream", bad),
        (CHAT, json!({"stream_options": {"include_usage": true}}), 400, "stream_options", bad),
        (CHAT, json!({"logprobs": 3}), 400, "logprobs", bad),
        (CHAT, json!({"logprobs": true, "top_logprobs": 21}), 400, "top_logprobs", bad),
        (CHAT, json!({"top_logprobs": 2}), 400, "top_logprobs", bad),
        (CHAT, json!({"chat_template_kwargs": []}), 400, "chat_template_kwargs", bad),
        (CHAT, json!({"tools": [{"type": "function"}]}), 400, "tools", unsupported),
        (CHAT, json!({"tool_choice": "required"}), 400, "tool_choice", unsupported),
        (CHAT, json!({"functions": [{}]}), 400, "functions", unsupported),
        (
            CHAT,
            json!({"response_format": {"type": "json_object"}}),
            400,
            "response_format",
            unsupported,
        ),
        (CHAT, json!({"modalities": ["text", "audio"]}), 400, "modalities", unsupported),
        (CHAT, json!({"chat_template": "{{ 1 }}"}), 400, "chat_template", unsupported),
        (TEXT, json!({"prompt": null}), 400, "prompt", bad),
        (TEXT, json!({"prompt": []}), 400, "prompt", bad),
        (TEXT, json!({"prompt": [1, "a"]}), 400, "prompt", bad),
        (TEXT, json!({"prompt": [[1], []]}), 400, "prompt", bad),
        (TEXT, json!({"prompt": [-1]}), 400, "prompt", bad),
        (TEXT, json!({"prompt": [600]}), 400, "prompt", bad),
        (TEXT, json!({"prompt": ["a", "b", "c"], "n": 3}), 400, "n", bad),
        (TEXT, json!({"logprobs": 6}), 400, "logprobs", bad),
        (TEXT, json!({"echo": true}), 400, "echo", unsupported),
        (TEXT, json!({"suffix": "end"}), 400, "suffix", unsupported),
        (TEXT, json!({"best_of": 3}), 400, "best_of", unsupported),
        (TEXT, json!({"prompt": vec![5; 512]}), 400, "prompt", "context_length_exceeded"),
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": "lazy dog ".repeat(512)}]}),
            400,
            "messages",
            "context_length_exceeded",
        ),
    ]
}

#[tokio::test]
async fn bad_fields_are_refused_by_name_before_the_engine() {
    let gateway = Gateway::start(Says::Text("never said")).await;
    for (path, change, status, param, code) in table() {
        let body =
            if path == CHAT { chat_body(change.clone()) } else { completion_body(change.clone()) };
        let answer = gateway.post(path, &body).await;
        let shown: String = change.to_string().chars().take(100).collect();
        assert_eq!(answer.refusal(), (status, param.into(), code.into()), "{path} {shown}");
    }
    assert_eq!(gateway.rank.submits(), []);
}

#[tokio::test]
async fn a_long_prompt_is_refused_with_both_numbers() {
    let gateway = Gateway::start(Says::Text("never said")).await;
    let body = completion_body(json!({"prompt": vec![5; 700]}));
    let message = gateway.post(TEXT, &body).await.json()["error"]["message"].to_string();
    assert!(message.contains("512") && message.contains("700"), "{message}");
    let fits = completion_body(json!({"prompt": vec![5; 511], "max_tokens": 100}));
    assert_eq!(gateway.post(TEXT, &fits).await.json()["usage"]["completion_tokens"], 1);
}
