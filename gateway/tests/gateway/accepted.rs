//! What clients send that OpenAI's documentation does not have, and every comparable server takes.

use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer};

use super::{
    fake_rank::Script,
    http::joined,
    server::{Gateway, Says, chat_body, completion_body, ids},
};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn what_every_server_takes_is_taken() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    let stops = |count: usize| -> Vec<String> { (0..count).map(|n| format!("s{n}")).collect() };
    let user = json!({"role": "user", "content": "q"});
    let history = |between: Value| json!({"messages": [user, between, user]});
    for change in [
        json!({"model": null}),
        json!({"max_tokens": 4.0, "top_k": 40.0, "seed": 1.0, "n": 1.0}),
        json!({"max_completion_tokens": 1e1, "logprobs": true, "top_logprobs": 2.0}),
        json!({"max_tokens": -1}),
        json!({"max_tokens": -1.0, "max_completion_tokens": -1, "top_k": -1.0, "seed": -1.0}),
        json!({"stop": stops(5)}),
        json!({"stop": stops(64)}),
        json!({"stop": ""}),
        json!({"stop": [""]}),
        json!({"stop": [null]}),
        json!({"stop": ["", null, "zzz", "zzz"]}),
        json!({"stop": vec!["zzz"; 100]}),
        json!({"logit_bias": []}),
        json!({"logit_bias": [[15, 5], [16, -1.5]]}),
        json!({"tools": [], "tool_choice": "none", "functions": [], "echo": false, "grammar": "",
               "guided_json": null, "min_tokens": 0, "ignore_eos": false, "structured_outputs": {}}),
        json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}),
        json!({"functions": [{"name": "f"}], "function_call": "none"}),
        history(json!({"role": "assistant", "content": null})),
        history(json!({"role": "assistant", "content": null, "refusal": "No."})),
        history(json!({"role": "assistant", "reasoning_content": "hm"})),
        history(json!({"role": "tool", "tool_call_id": "c", "content": null})),
        history(json!({"role": "function", "name": "f", "content": "1"})),
        history(json!({"role": "user", "content": ["a", {"type": "input_text", "text": "b"}]})),
        json!({"messages": [{"role": "user", "content": null}]}),
    ] {
        let answer = gateway.chat(change.clone()).await;
        let shown: String = change.to_string().chars().take(200).collect();
        assert_eq!(answer.status, 200, "{shown}: {}", answer.json());
        assert_eq!(answer.json()["model"], "tiny/model");
    }
    let biased = json!({"logit_bias": [[15, 5], [16, 1], [15.0, -2]], "max_tokens": -1});
    gateway.chat(biased).await;
    let submit = gateway.rank.submits().pop().unwrap();
    assert_eq!(submit.sampling.logit_bias, [(16, 1.0), (15, -2.0)]);
    assert_eq!(
        submit.max_tokens as usize,
        512 - submit.prompt.len(),
        "all that the context leaves"
    );
    let tokens = completion_body(json!({"prompt": [5.0, 6.0], "model": null}));
    assert_eq!(gateway.post("/v1/completions", &tokens).await.status, 200);
    assert_eq!(gateway.rank.submits().pop().unwrap().prompt, [5, 6]);
}

#[tokio::test]
async fn a_stop_text_among_many_ends_the_answer() {
    let gateway = Gateway::start(Says::Text("one two three the end four")).await;
    let mut stops: Vec<String> = (0..40).map(|n| format!("never {n}")).collect();
    stops.push("the end".into());
    let json = gateway.chat(json!({"stop": stops})).await.json();
    assert_eq!(json["choices"][0]["message"]["content"], "one two three ");
}

#[tokio::test]
async fn an_assistants_message_is_gone_on_with() {
    let gateway = Gateway::start(Says::Text(" am here")).await;
    let asked = |last: Value| json!([{"role": "user", "content": "q"}, last]);
    let head = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
    let begun = json!({"role": "assistant", "content": "Hello, I"});
    let prefix = json!({"role": "assistant", "content": "Hello, I", "prefix": true});
    let closed = format!("{head}Hello, I<|im_end|>\n");
    let new_turn = format!("{closed}<|im_start|>assistant\n");
    for (change, prompt) in [
        (
            json!({"messages": asked(begun.clone()), "continue_final_message": true,
                "add_generation_prompt": false}),
            format!("{head}Hello, I"),
        ),
        (
            json!({"messages": asked(begun.clone()), "continue_final_message": true}),
            format!("{head}Hello, I"),
        ),
        (json!({"messages": asked(prefix)}), format!("{head}Hello, I")),
        (json!({"messages": asked(begun.clone())}), new_turn.clone()),
        (json!({"messages": asked(begun.clone()), "continue_final_message": false}), new_turn),
        (json!({"messages": asked(begun), "add_generation_prompt": false}), closed),
    ] {
        let json = gateway.chat(change.clone()).await.json();
        assert_eq!(json["choices"][0]["message"]["content"], " am here", "{change}");
        let ids = gateway.tokenizer.encode(prompt.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(gateway.rank.submits().pop().unwrap().prompt, ids, "{change}");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_in_its_reasoning_goes_on_in_it() {
    let gateway = Gateway::start(Says::Text(" more</think>\nYes.")).await;
    let messages = json!([{"role": "user", "content": "q"},
                          {"role": "assistant", "content": "<think>some", "prefix": true}]);
    let message =
        gateway.chat(json!({"messages": messages})).await.json()["choices"][0]["message"].clone();
    let (reasoning, content) = (&message["reasoning_content"], &message["content"]);
    assert_eq!((reasoning, content), (&json!(" more"), &json!("Yes.")));
}

#[tokio::test]
async fn paths_with_slashes_too_many_or_without_the_version_are_served() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    for path in [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/chat/completions/?x=1",
    ] {
        assert_eq!(gateway.post(path, &chat_body(json!({}))).await.status, 200, "{path}");
    }
    for path in ["/v1/completions/", "/completions"] {
        let answer = gateway.post(path, &completion_body(json!({}))).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/models", "/v1/models/", "/models/tiny/model", "//v1/models/tiny/model/"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1", "/", "/metrics", "/api/tags", "/v1/chat", "/chat"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(&format!("no {path} here; there are /v1/chat/")), "{message}");
    }
    assert_eq!(gateway.get("/chat/completions/").await.status, 405);
}

/// A model whose vocabulary has marks as special tokens, which its decoder would leave out.
#[tokio::test]
async fn marks_that_are_special_tokens_part_reasoning_from_the_answer() {
    let marks = ["[THINK]", "[/THINK]", "<think>", "</think>", "<|python_tag|>", "[TOOL_CALLS]"];
    let gateway = Gateway::start_as(Says::Drawn, None, |setup| {
        let path = setup.model_dir.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&path).unwrap();
        tokenizer.add_special_tokens(&marks.map(|text| AddedToken::from(text, true)));
        tokenizer.save(path, false).unwrap();
    })
    .await;
    let mut tokenizer = gateway.tokenizer.clone();
    tokenizer.add_special_tokens(&marks.map(|text| AddedToken::from(text, true)));
    for (said, reasoning, content) in [
        ("[THINK]17 times 23[/THINK]The answer.", "17 times 23", "The answer."),
        ("<think>\n[THINK] is a mark\n</think>\n\nYes", "[THINK] is a mark\n", "Yes"),
        ("<|python_tag|>print(1)", "", "<|python_tag|>print(1)"),
        ("[TOOL_CALLS][{}]", "", "[TOOL_CALLS][{}]"),
        ("So [THINK]x[/THINK]", "", "So [THINK]x[/THINK]"),
        ("[THINK]cut", "cut", ""),
    ] {
        let tokens = ids(&tokenizer, said);
        gateway.rank.change(|behaviour| behaviour.script = Script::Tokens(tokens));
        let message = gateway.chat(json!({})).await.json()["choices"][0]["message"].clone();
        let told = message["reasoning_content"].as_str().unwrap_or_default();
        assert_eq!((told, &message["content"]), (reasoning, &json!(content)), "{said}");
        let events = gateway.chat_stream(json!({})).await.events().await;
        assert_eq!(joined(&events, 0), (reasoning.into(), content.into(), "stop".into()), "{said}");
        let text = gateway.post("/v1/completions", &completion_body(json!({}))).await.json();
        assert_eq!(text["choices"][0]["text"], said, "completions are plain text");
    }
    assert_eq!(gateway.get(CHAT).await.status, 405);
}
