//! The engine dies, refuses, lies or hangs, and streams go on as if nothing had happened.

use serde_json::json;
use tandem_wire::{FailureCode, Phase};

use super::{
    http::joined,
    server::{Gateway, Says, chat_body},
};

#[tokio::test]
async fn a_stream_goes_on_with_the_same_text_over_two_crashes() {
    let gateway = Gateway::start_with(Says::Drawn, Some(1_000), |_| {}).await;
    let ask = json!({"seed": 7, "max_tokens": 60});
    let whole = joined(&gateway.chat_stream(ask.clone()).await.events().await, 0);

    let gateway = Gateway::start_with(Says::Drawn, Some(10), |_| {}).await;
    let mut stream = gateway.chat_stream(ask).await;
    let mut text = stream.text().await;
    gateway.rank.crash(Phase::Loading);
    gateway.until_health(503).await;
    gateway.rank.set_phase(Phase::Ready);
    gateway.rank.submitted(2).await;
    gateway.rank.allow(15);
    text += &stream.text().await;
    gateway.rank.crash(Phase::Ready);
    gateway.rank.submitted(3).await;
    gateway.rank.allow(100);
    let (_, rest, finish) = joined(&stream.events().await, 0);
    assert_eq!((text + &rest, finish), (whole.1, whole.2));

    let submits = gateway.rank.submits();
    assert_eq!(submits.len(), 3);
    assert!(submits[0].generated.is_empty());
    assert!(!submits[1].generated.is_empty());
    assert!(submits[2].generated.starts_with(&submits[1].generated));
    assert!(submits.iter().all(|s| s.sampling == submits[0].sampling));
    assert!(submits.iter().all(|s| s.prompt == submits[0].prompt && s.max_tokens == 60));
}

#[tokio::test]
async fn whole_answers_and_all_choices_survive_a_crash_too() {
    let gateway = Gateway::start(Says::Drawn).await;
    let ask = json!({"seed": 9, "max_tokens": 40, "n": 3});
    let undisturbed = gateway.chat(ask.clone()).await.json()["choices"].clone();

    let gateway = Gateway::start_with(Says::Drawn, Some(50), |_| {}).await;
    let crash = async {
        gateway.rank.submitted(3).await;
        gateway.rank.crash(Phase::Ready);
        gateway.rank.allow(1_000);
    };
    let (answer, ()) = tokio::join!(gateway.chat(ask), crash);
    assert_eq!(answer.json()["choices"], undisturbed);
}

#[tokio::test]
async fn refusals_for_want_of_room_or_readiness_only_delay() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    gateway.rank.change(|rank| rank.refusals = vec![FailureCode::NotReady, FailureCode::Full]);
    let json = gateway.chat(json!({})).await.json();
    assert_eq!(json["choices"][0]["message"]["content"], "the end");
    assert_eq!(gateway.rank.submits().len(), 3);

    gateway.rank.change(|rank| rank.requests_max = 2);
    let asks = (0..8).map(|_| gateway.chat(json!({})));
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "the end");
    }
}

#[tokio::test]
async fn a_request_the_engine_calls_invalid_is_the_clients_fault() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    gateway.rank.change(|rank| rank.refusals = vec![FailureCode::Invalid; 2]);
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].to_string().contains("as the test says"));
    let events = gateway.chat_stream(json!({})).await.events().await;
    assert!(events.last().unwrap()["error"]["message"].is_string(), "{events:?}");
}

#[tokio::test]
async fn tokens_out_of_step_never_reach_the_client() {
    for wrong in [0, 2, 500] {
        let gateway = Gateway::start_with(Says::Text("the quick brown fox"), Some(2), |_| {}).await;
        let mut stream = gateway.chat_stream(json!({})).await;
        let mut text = stream.text().await;
        gateway.rank.change(|rank| rank.wrong_index = Some(wrong));
        gateway.rank.crash(Phase::Ready);
        gateway.rank.submitted(2).await;
        gateway.rank.allow(100);
        gateway.rank.cancelled(1).await;
        text += &joined(&stream.events().await, 0).1;
        assert_eq!(text, "the quick brown fox");
        assert_eq!(gateway.rank.submits().len(), 3);
    }
}

#[tokio::test]
async fn a_request_that_kills_the_engine_each_time_is_given_up() {
    let gateway = Gateway::start_with(Says::Drawn, Some(0), |_| {}).await;
    let kill = async {
        for times in 1..=6 {
            gateway.rank.submitted(times).await;
            gateway.rank.crash(Phase::Ready);
        }
    };
    let (answer, ()) = tokio::join!(gateway.chat(json!({})), kill);
    assert_eq!(answer.refusal(), (500, "-".into(), "internal_error".into()));
    assert!(answer.json()["error"]["message"].to_string().contains("failed 5 times"));
    gateway.rank.allow(100);
    gateway.until_health(200).await;
    assert_eq!(gateway.chat(json!({"max_tokens": 1})).await.status, 200);
}

#[tokio::test]
async fn a_client_is_told_that_its_request_was_submitted_again() {
    let gateway = Gateway::start_with(Says::Text("the end"), Some(0), |_| {}).await;
    let mut stream = gateway.chat_stream(json!({})).await;
    assert!(stream.event().await.unwrap().contains("assistant"));
    let again = async {
        for times in 2..=4 {
            gateway.rank.submitted(times).await;
            gateway.rank.crash(Phase::Ready);
        }
        gateway.rank.submitted(6).await;
        gateway.rank.allow(1_000);
    };
    let (answer, ()) = tokio::join!(gateway.chat(json!({})), again);
    assert_eq!(answer.status, 200);
    let times: u32 = answer.headers["x-tandem-resubmissions"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&times), "{times}");
    let mut told = Vec::new();
    loop {
        match stream.event().await.unwrap().as_str() {
            "[DONE]" => break,
            comment if comment.starts_with(": the engine was lost") => {
                told.push(comment.to_owned())
            }
            _ => {}
        }
    }
    assert!(!told.is_empty() && told[0].contains("attempt 1 of at most 5"), "{told:?}");
}

#[tokio::test]
async fn a_lost_last_word_is_not_asked_for_again() {
    // The budget ends with the last token; `Done` is on its way when the engine dies, or the
    // engine is asked again: in both cases the text is the same and whole.
    let gateway = Gateway::start_with(Says::Drawn, Some(4), |_| {}).await;
    let mut stream = gateway.chat_stream(json!({"seed": 3, "max_tokens": 4})).await;
    stream.text().await;
    gateway.rank.crash(Phase::Ready);
    let events = stream.events().await;
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn new_requests_are_told_why_they_have_to_wait() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    for (phase, reason) in [(Phase::Unloading, "unloading"), (Phase::Loading, "being loaded")] {
        gateway.rank.crash(phase);
        // Until it is connected again, the reason is another.
        loop {
            let health = gateway.get("/health").await;
            if health.json()["reason"].as_str().is_some_and(|text| text.contains(reason)) {
                assert_eq!(health.status, 503);
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = gateway.chat(json!({})).await;
        assert_eq!(answer.refusal(), (503, "-".into(), "not_ready".into()));
        assert!(answer.headers.contains_key("retry-after"));
        assert!(answer.json()["error"]["message"].to_string().contains(reason));
    }
    let unknown = gateway.chat(json!({"model": "other"})).await;
    assert_eq!(unknown.status, 404, "what is wrong anyway is said first");
    assert_eq!(gateway.rank.submits(), []);
    std::fs::remove_file(gateway.socket()).unwrap();
    assert_eq!(gateway.post("/v1/chat/completions", &chat_body(json!({}))).await.status, 503);
}

#[tokio::test]
async fn a_rank_of_another_protocol_is_not_spoken_with() {
    let gateway = Gateway::start(Says::Text("the end")).await;
    gateway.rank.change(|rank| rank.protocol = 99);
    gateway.rank.crash(Phase::Ready);
    loop {
        let reason = gateway.get("/health").await.json()["reason"].to_string();
        if reason.contains("protocol 99") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.chat(json!({})).await.refusal().0, 503);
}
