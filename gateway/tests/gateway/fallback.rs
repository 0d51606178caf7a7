//! A model that stands in for another: clients that ask for the usual one are served, and every
//! answer says by what.

use serde_json::{Value, json};

use super::server::{Gateway, Says, chat_body, completion_body};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[tokio::test]
async fn every_answer_names_the_model_that_gave_it() {
    let gateway = Gateway::start_as(Says::Text("the end"), None, |setup| {
        setup.aliases = vec!["small".into()];
        setup.stands_in_for = vec!["big/model".into(), "gpt-4o".into()];
    })
    .await;
    for name in ["tiny/model", "small", "big/model", "gpt-4o", "default_model"] {
        let asked = json!({"model": name});
        for (path, mut body) in [(CHAT, chat_body(asked.clone())), (TEXT, completion_body(asked))] {
            let whole = gateway.post(path, &body).await;
            assert_eq!(
                (whole.status.as_u16(), whole.json()["model"].clone()),
                (200, "tiny/model".into())
            );
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
            let events = gateway.open(path, &body).await.events().await;
            assert!(events.len() > 2, "{events:?}");
            assert!(events.iter().all(|event| event["model"] == "tiny/model"), "{events:?}");
        }
    }
    assert_eq!(gateway.chat(json!({"model": "other"})).await.status, 404);

    let ids = |list: &Value| {
        let models = list["data"].as_array().unwrap().iter();
        models.map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&gateway.get("/v1/models").await.json()), ["tiny/model", "small"]);
    for (asked, told) in [("small", "small"), ("big/model", "tiny/model"), ("gpt-4o", "tiny/model")]
    {
        let card = gateway.get(&format!("/v1/models/{asked}")).await.json();
        assert_eq!(card["id"], told, "{asked}");
    }
    assert_eq!(gateway.get("/health").await.json()["model"], "tiny/model");
}
