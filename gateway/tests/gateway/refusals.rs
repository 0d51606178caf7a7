//! Every kind of bad request gets the status, the field and the code that name its fault, and
//! none of them reaches the engine.

use serde_json::{Value, json};

use super::{
    http::open,
    server::{Gateway, Says, chat_body, completion_body},
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// Path, changes to a good request, and the refusal: status, param, code.
fn table() -> Vec<(&'static str, Value, u16, &'static str, &'static str)> {
    let bad = "invalid_value";
    let unsupported = "unsupported_parameter";
    vec![
        (CHAT, json!({"model": "gpt-5"}), 404, "model", "model_not_found"),
        (TEXT, json!({"model": "../../etc"}), 404, "model", "model_not_found"),
        (CHAT, json!({"model": ""}), 404, "model", "model_not_found"),
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
        (CHAT, json!({"logit_bias": [[5]]}), 400, "logit_bias", bad),
        (CHAT, json!({"logit_bias": [["fox", 1]]}), 400, "logit_bias", bad),
        (CHAT, json!({"logit_bias": "fox"}), 400, "logit_bias", bad),
        (CHAT, json!({"seed": 1.5}), 400, "seed", bad),
        (CHAT, json!({"n": 0}), 400, "n", bad),
        (CHAT, json!({"n": 9}), 400, "n", bad),
        (
            CHAT,
            json!({"stop": (0..65).map(|n| n.to_string()).collect::<Vec<_>>()}),
            400,
            "stop",
            bad,
        ),
        (CHAT, json!({"stop": ["a", 5]}), 400, "stop", bad),
        (CHAT, json!({"stop": "x".repeat(1_025)}), 400, "stop", bad),
        (CHAT, json!({"stop": 5}), 400, "stop", bad),
        (CHAT, json!({"max_tokens": 0}), 400, "max_tokens", bad),
        (CHAT, json!({"max_tokens": 4.5}), 400, "max_tokens", bad),
        (CHAT, json!({"max_tokens": "4"}), 400, "max_tokens", bad),
        (CHAT, json!({"max_tokens": -2}), 400, "max_tokens", bad),
        (CHAT, json!({"max_tokens": 1e300}), 400, "max_tokens", bad),
        (CHAT, json!({"max_completion_tokens": -1.5}), 400, "max_completion_tokens", bad),
        (CHAT, json!({"max_tokens": -1, "max_completion_tokens": 2}), 400, "max_tokens", bad),
        (CHAT, json!({"n": 1.5}), 400, "n", bad),
        (CHAT, json!({"top_k": 2.5}), 400, "top_k", bad),
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
        (CHAT, json!({"echo": true}), 400, "echo", unsupported),
        (CHAT, json!({"guided_regex": "a+"}), 400, "guided_regex", unsupported),
        (
            CHAT,
            json!({"structured_outputs": {"choice": ["a"]}}),
            400,
            "structured_outputs",
            unsupported,
        ),
        (TEXT, json!({"grammar": "root ::= \"a\""}), 400, "grammar", unsupported),
        (TEXT, json!({"ignore_eos": true}), 400, "ignore_eos", unsupported),
        (CHAT, json!({"min_tokens": 5}), 400, "min_tokens", unsupported),
        (CHAT, json!({"continue_final_message": true}), 400, "continue_final_message", bad),
        (CHAT, json!({"continue_final_message": 1}), 400, "continue_final_message", bad),
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
async fn what_can_not_be_gone_on_with_is_refused_by_name() {
    let gateway = Gateway::start(Says::Text("never said")).await;
    let user = json!({"role": "user", "content": "q"});
    let begun = |more: Value| {
        let mut message = json!({"role": "assistant", "content": "Hello, I"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let calls = json!([{"type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let go_on = "continue_final_message";
    for (messages, more, param) in [
        (
            json!([user, begun(json!({}))]),
            json!({go_on: true, "add_generation_prompt": true}),
            go_on,
        ),
        (json!([user]), json!({go_on: true, "add_generation_prompt": false}), go_on),
        (json!([user, begun(json!({"tool_calls": calls}))]), json!({go_on: true}), go_on),
        (json!([user, {"role": "tool", "content": "1"}]), json!({go_on: true}), go_on),
        (
            json!([user, begun(json!({"prefix": true}))]),
            json!({"add_generation_prompt": true}),
            "prefix",
        ),
        (
            json!([user, begun(json!({"prefix": true}))]),
            json!({go_on: false}),
            "messages[1].prefix",
        ),
        (json!([user, begun(json!({"prefix": "yes"}))]), json!({}), "messages[1].prefix"),
        (json!([begun(json!({"prefix": true})), user]), json!({}), "messages[0].prefix"),
        (json!([{"role": "user", "content": "q", "prefix": true}]), json!({}), "prefix"),
    ] {
        let mut change = more.clone();
        change["messages"] = messages;
        let answer = gateway.chat(change.clone()).await;
        assert_eq!(answer.refusal(), (400, param.into(), "invalid_value".into()), "{change}");
    }
    assert_eq!(gateway.rank.submits(), []);
}

#[tokio::test]
async fn a_body_that_is_not_plain_json_is_told_why() {
    let gateway = Gateway::start(Says::Text("never said")).await;
    let json = ("content-type", "application/json");
    let plain = chat_body(json!({})).to_string().into_bytes();
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &plain].concat();
    let lone = br#"{"messages":[{"role":"user","content":"x \ud83d y"}]}"#.to_vec();
    for (encoding, body, status, words) in [
        (Some("gzip"), gzip.clone(), 415, "'gzip'"),
        (Some("GZip"), plain.clone(), 415, "'gzip'"),
        (Some("zstd"), plain.clone(), 415, "'zstd'"),
        (Some("identity, br"), plain.clone(), 415, "'br'"),
        (None, gzip, 415, "'gzip'"),
        (None, lone, 400, "'messages[0].content' holds \\ud83d alone"),
        (Some("identity"), b"{".to_vec(), 400, "not JSON"),
        (Some(""), plain, 200, ""),
    ] {
        let headers: Vec<_> =
            [json].into_iter().chain(encoding.map(|name| ("content-encoding", name))).collect();
        let answer = open(gateway.address, "POST", CHAT, &headers, body).await.whole().await;
        assert_eq!(answer.status, status, "{encoding:?}");
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(words), "{encoding:?}: {message}");
    }
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
