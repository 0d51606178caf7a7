//! What clients get when all goes well.

use serde_json::{Value, json};

use super::{
    http::joined,
    server::{Gateway, Says, completion_body, ids},
};

const TEXT: &str = "The fox 🚀 说 日本語, süß — and  two spaces.\n\nEnd 👩‍🚀!";

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let gateway = Gateway::start(Says::Text(TEXT)).await;
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "tiny/model");
    assert_eq!(json["choices"][0]["message"], json!({"role": "assistant", "content": TEXT}));
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let prompt = gateway.tokenizer.encode(prompt, false).unwrap().get_ids().to_vec();
    let generated = ids(&gateway.tokenizer, TEXT).len();
    let usage = json!({"prompt_tokens": prompt.len(), "completion_tokens": generated,
                       "total_tokens": prompt.len() + generated});
    assert_eq!(json["usage"], usage);
    let submit = &gateway.rank.submits()[0];
    assert_eq!(submit.prompt, prompt);
    let end = gateway.tokenizer.token_to_id("<|im_end|>").unwrap();
    assert_eq!(submit.stop_tokens, [end, 0], "generation_config.json's come first");
    assert_eq!(submit.sampling.temperature, 0.5, "the model's own recommendation");
    assert_eq!(submit.max_tokens as usize, 512 - prompt.len(), "cut to what the context leaves");
}

#[tokio::test]
async fn a_streamed_chat_says_the_same_in_pieces() {
    let gateway = Gateway::start(Says::Text(TEXT)).await;
    let options = json!({"stream_options": {"include_usage": true}});
    let stream = gateway.chat_stream(options).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
    let events = stream.events().await;
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(joined(&events, 0), (String::new(), TEXT.into(), "stop".into()));
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    assert!(events.iter().all(|event| event["id"] == events[0]["id"]));
    let (last, others) = events.split_last().unwrap();
    assert!(others.iter().all(|event| event["usage"].is_null()));
    assert_eq!(last["choices"], json!([]));
    let generated = ids(&gateway.tokenizer, TEXT).len();
    assert_eq!(last["usage"]["completion_tokens"], generated);
    let plain = gateway.chat_stream(json!({})).await.events().await;
    assert!(plain.iter().all(|event| event.get("usage").is_none()));
}

#[tokio::test]
async fn parameters_reach_the_engine_as_given() {
    let gateway = Gateway::start(Says::Drawn).await;
    let body = json!({
        "temperature": 0.25, "top_p": 0.5, "top_k": 7, "min_p": 0.125, "seed": -1,
        "repetition_penalty": 1.5, "presence_penalty": -0.5, "frequency_penalty": 0.75,
        "logit_bias": {"17": -100, "5": 2.5}, "max_completion_tokens": 3, "user": "me",
        "store": true, "metadata": {}, "x_unknown": [1], "tools": [], "tool_choice": "auto",
        "response_format": {"type": "text"}, "logprobs": true, "top_logprobs": 4,
    });
    let json = gateway.chat(body).await.json();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    assert_eq!(json["usage"]["completion_tokens"], 3);
    let submit = &gateway.rank.submits()[0];
    assert_eq!((submit.max_tokens, submit.logprobs), (3, Some(4)));
    let sampling = &submit.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.25, 0.5, 7));
    assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.125, 1.5));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (-0.5, 0.75));
    assert_eq!(
        (sampling.logit_bias.as_slice(), sampling.seed),
        (&[(17, -100.0), (5, 2.5)][..], u64::MAX)
    );
}

#[tokio::test]
async fn choices_have_seeds_of_their_own_and_can_be_had_again() {
    let gateway = Gateway::start(Says::Drawn).await;
    let ask = |n: u32| json!({"n": n, "seed": 42, "max_tokens": 20});
    let texts = |json: Value| -> Vec<String> {
        let choices = json["choices"].as_array().unwrap();
        choices.iter().map(|one| one["message"]["content"].as_str().unwrap().into()).collect()
    };
    let three = texts(gateway.chat(ask(3)).await.json());
    assert_eq!(three.len(), 3);
    assert!(three[0] != three[1] && three[1] != three[2] && three[0] != three[2], "{three:?}");
    assert_eq!(texts(gateway.chat(ask(1)).await.json()), three[..1]);
    let events = gateway.chat_stream(ask(3)).await.events().await;
    for (index, text) in three.iter().enumerate() {
        let streamed = joined(&events, index as u64);
        assert_eq!((&streamed.1, streamed.2.as_str()), (text, "length"));
    }
    let seeds: Vec<u64> = gateway.rank.submits().iter().map(|s| s.sampling.seed).collect();
    assert_eq!(seeds[0], 42);
    gateway.chat(json!({"max_tokens": 1})).await;
    gateway.chat(json!({"max_tokens": 1})).await;
    let submits = gateway.rank.submits();
    let [.., a, b] = submits.as_slice() else { panic!() };
    assert_ne!(a.sampling.seed, b.sampling.seed, "without a seed each request gets its own");
}

#[tokio::test]
async fn a_stop_string_ends_the_text_and_the_engines_work() {
    let said = "one two three the end four five";
    let gateway = Gateway::start_with(Says::Text(said), Some(0), |_| {}).await;
    // Enough for the stop string, but not for the engine to end by itself.
    let enough = ids(&gateway.tokenizer, "one two three the end four").len() - 1;
    gateway.rank.allow(enough);
    let stops = json!({"stop": ["e end f", "zzz"], "logprobs": true});
    let json = gateway.chat(stops.clone()).await.json();
    let choice = &json["choices"][0];
    assert_eq!(choice["message"]["content"], "one two three th");
    assert_eq!(choice["finish_reason"], "stop");
    let entries = choice["logprobs"]["content"].as_array().unwrap();
    let spelt: String = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert!(spelt.starts_with("one two three th") && !spelt.contains("four"), "{spelt}");
    gateway.rank.cancelled(0).await;
    gateway.rank.allow(1_000);
    let events = gateway.chat_stream(stops).await.events().await;
    assert_eq!(joined(&events, 0), (String::new(), "one two three th".into(), "stop".into()));
    let json = gateway.chat(json!({"stop": "not there"})).await.json();
    assert_eq!(json["choices"][0]["message"]["content"], said);
}

#[tokio::test]
async fn reasoning_is_told_from_the_answer() {
    let said = "<think>\nthe other fox 日本</think>\n\nthe end";
    let gateway = Gateway::start(Says::Text(said)).await;
    let message = gateway.chat(json!({})).await.json()["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "the other fox 日本");
    assert_eq!(message["content"], "the end");
    let events = gateway.chat_stream(json!({})).await.events().await;
    assert_eq!(joined(&events, 0), ("the other fox 日本".into(), "the end".into(), "stop".into()));
    let text = gateway.post("/v1/completions", &completion_body(json!({}))).await.json();
    assert_eq!(text["choices"][0]["text"], said, "completions are plain text");

    let gateway = Gateway::start(Says::Text("hm</think>Yes.")).await;
    let opened = json!({"chat_template_kwargs": {"thinking": true}});
    let message = gateway.chat(opened).await.json()["choices"][0]["message"].clone();
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("hm"), &json!("Yes."))
    );
}

#[tokio::test]
async fn log_probabilities_spell_the_text() {
    let gateway = Gateway::start(Says::Text(TEXT)).await;
    let asked = json!({"logprobs": true, "top_logprobs": 2});
    let json = gateway.chat(asked.clone()).await.json();
    let entries = json["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let bytes = |entries: &[Value]| -> Vec<u8> {
        let all = entries.iter().flat_map(|entry| entry["bytes"].as_array().unwrap());
        all.map(|byte| byte.as_u64().unwrap() as u8).collect()
    };
    assert_eq!(bytes(&entries), TEXT.as_bytes());
    assert!(entries.iter().all(|entry| entry["logprob"] == -0.5));
    assert!(entries.iter().all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 2));
    let events = gateway.chat_stream(asked).await.events().await;
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(streamed, entries);
    let without = gateway.chat(json!({})).await.json();
    assert!(without["choices"][0]["logprobs"].is_null());

    let body = completion_body(json!({"logprobs": 1}));
    let json = gateway.post("/v1/completions", &body).await.json();
    let logprobs = &json["choices"][0]["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    for name in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[name].as_array().unwrap().len(), tokens.len(), "{name}");
    }
    let offset = |n: usize| logprobs["text_offset"][n].as_u64().unwrap() as usize;
    assert_eq!(offset(0), 0);
    let third: String = TEXT.chars().skip(offset(3)).collect();
    assert!(third.starts_with(tokens[3].as_str().unwrap()), "{logprobs}");
}

#[tokio::test]
async fn completions_take_text_tokens_and_several_of_them() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    let forms = [
        (json!("the quick"), 1),
        (json!(["the quick", "fox"]), 2),
        (json!([5, 6, 7]), 1),
        (json!([[5, 6], [7]]), 2),
    ];
    for (prompt, count) in forms {
        let body = completion_body(json!({"prompt": prompt}));
        let json = gateway.post("/v1/completions", &body).await.json();
        assert_eq!(json["object"], "text_completion");
        let choices = json["choices"].as_array().unwrap();
        assert_eq!(choices.len(), count, "{prompt}");
        assert!(choices.iter().all(|choice| choice["text"] == "the end"));
    }
    let submits = gateway.rank.submits();
    assert_eq!(submits[3].prompt, [5, 6, 7]);
    assert_eq!((submits[4].prompt.len(), submits[5].prompt.len()), (2, 1));
    let empty = completion_body(json!({"prompt": ""}));
    assert_eq!(gateway.post("/v1/completions", &empty).await.status, 200);
    let begin = gateway.tokenizer.token_to_id("<|im_start|>").unwrap();
    assert_eq!(gateway.rank.submits()[6].prompt, [begin], "an empty text still begins");
    let mut body = completion_body(json!({"prompt": ["a", "b"], "n": 2}));
    body["stream"] = true.into();
    let events = gateway.open("/v1/completions", &body).await.events().await;
    for index in 0..4 {
        assert_eq!(joined(&events, index).1, "the end");
    }
}

#[tokio::test]
async fn message_content_may_come_in_parts_and_developers_are_systems() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"type": "function", "id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
    ]);
    assert_eq!(gateway.chat(json!({"messages": messages})).await.status, 200);
    let prompt = &gateway.rank.submits()[0].prompt;
    let text = gateway.tokenizer.decode(prompt, false).unwrap();
    assert!(
        text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na\nb<"),
        "{text}"
    );
}

#[tokio::test]
async fn the_model_is_listed_and_answers_to_its_names() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    let list = gateway.get("/v1/models").await.json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny/model", "gpt-4o"]);
    for name in ["tiny/model", "gpt-4o", "default_model"] {
        let card = gateway.get(&format!("/v1/models/{name}")).await.json();
        assert_eq!((&card["id"], &card["max_model_len"]), (&json!(name), &json!(512)));
        assert_eq!(gateway.chat(json!({"model": name})).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn fifty_clients_at_once_each_get_their_own_text() {
    let gateway =
        Gateway::start_with(Says::Drawn, None, |settings| settings.max_submitted = 8).await;
    let ask = |seed: u64| json!({"seed": seed, "max_tokens": 60, "n": 1 + seed % 2});
    let mut alone = Vec::new();
    for seed in 0..50 {
        alone.push(gateway.chat(ask(seed)).await.json());
    }
    let together = (0..50).map(|seed| {
        let (ask, gateway) = (&ask, &gateway);
        async move {
            if seed % 3 == 0 {
                let events = gateway.chat_stream(ask(seed)).await.events().await;
                joined(&events, 0).1
            } else {
                let json = gateway.chat(ask(seed)).await.json();
                json["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
            }
        }
    });
    let together = futures_util::future::join_all(together).await;
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone["choices"][0]["message"]["content"], together.as_str());
    }
    assert!(gateway.rank.active_max() <= 8, "the rank got more than it takes");
}
