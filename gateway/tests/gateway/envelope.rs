//! What is around a request: paths, methods, bodies, ids, keys.

use serde_json::json;

use super::{
    http::{Headers, open},
    server::{Gateway, Says, chat_body},
};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn what_is_not_a_request_is_refused_in_the_same_shape() {
    let gateway =
        Gateway::start_with(Says::Text("x"), None, |settings| settings.max_body_bytes = 4096).await;
    let json: &[_] = &[("content-type", "application/json")];
    let good = chat_body(json!({})).to_string().into_bytes();
    let large = vec![b' '; 5000];
    let deep = [vec![b'['; 2000], vec![b']'; 2000]].concat();
    // Method, path, headers and body; status and code.
    type Row<'a> = (&'a str, &'a str, Headers<'a>, Vec<u8>, u16, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("POST", CHAT, json, b"{\"model\":".to_vec(), 400, "-"),
        ("POST", CHAT, json, b"".to_vec(), 400, "-"),
        ("POST", CHAT, json, b"[]".to_vec(), 400, "-"),
        ("POST", CHAT, json, b"{\"model\":\"\xff\"}".to_vec(), 400, "-"),
        ("POST", CHAT, json, deep, 400, "-"),
        ("POST", CHAT, json, large, 413, "body_too_large"),
        ("POST", CHAT, &[], good.clone(), 415, "unsupported_content_type"),
        (
            "POST",
            CHAT,
            &[("content-type", "text/plain")],
            good.clone(),
            415,
            "unsupported_content_type",
        ),
        ("GET", CHAT, &[], vec![], 405, "method_not_allowed"),
        ("DELETE", "/v1/models", &[], vec![], 405, "method_not_allowed"),
        ("POST", "/health", &[], vec![], 405, "method_not_allowed"),
        ("GET", "/", &[], vec![], 404, "not_found"),
        ("POST", "/v1/embeddings", json, good, 404, "not_found"),
        ("GET", "/v1/models/other", &[], vec![], 404, "model_not_found"),
    ];
    for (method, path, headers, body, status, code) in rows {
        let answer = open(gateway.address, method, path, headers, body).await.whole().await;
        let (got_status, _, got_code) = answer.refusal();
        assert_eq!((got_status, got_code.as_str()), (status, code), "{method} {path}");
        assert!(answer.headers.contains_key("x-request-id"), "{method} {path}");
    }
    assert_eq!(gateway.rank.submits(), []);
}

#[tokio::test]
async fn request_ids_are_echoed_if_they_are_ids() {
    let gateway = Gateway::start(Says::Text("x")).await;
    let ask = async |id: &str| {
        let headers = [("x-request-id", id)];
        let answer = open(gateway.address, "GET", "/health", &headers, vec![]).await;
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask("abc-123_x.y:z").await, "abc-123_x.y:z");
    let long = "a".repeat(129);
    for bad in ["a b", "<script>", &long] {
        let id = ask(bad).await;
        assert!(id.starts_with("req-") && id.len() == 20, "{id}");
    }
}

#[tokio::test]
async fn keys_open_what_needs_them_and_health_needs_none() {
    let gateway = Gateway::start_with(Says::Text("x"), None, |settings| {
        settings.api_keys = ["one", "two"].map(tandem_gateway::hash_api_key).to_vec();
        settings.require_key_on_loopback = true;
    })
    .await;
    let ask = async |path: &str, key: Option<&str>| {
        let value = format!("Bearer {}", key.unwrap_or_default());
        let headers = [("authorization", value.as_str())];
        let headers = if key.is_some() { &headers[..] } else { &[] };
        open(gateway.address, "GET", path, headers, vec![]).await.whole().await
    };
    for key in ["one", "two"] {
        assert_eq!(ask("/v1/models", Some(key)).await.status, 200);
    }
    for (path, key) in [("/v1/models", None), ("/v1/models", Some("three")), ("/nowhere", None)] {
        let answer = ask(path, key).await;
        assert_eq!(answer.refusal(), (401, "-".into(), "invalid_api_key".into()));
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(ask("/nowhere", Some("one")).await.status, 404);
    assert_eq!(ask("/health", None).await.status, 200);

    let open_here = Gateway::start_with(Says::Text("x"), None, |settings| {
        settings.api_keys = vec![tandem_gateway::hash_api_key("one")];
    })
    .await;
    assert_eq!(open_here.get("/v1/models").await.status, 200, "loopback needs none by default");
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_still_reads_why_not() {
    let gateway = Gateway::start_with(Says::Text("x"), None, |settings| {
        settings.max_body_bytes = 4096;
        settings.api_keys = vec![tandem_gateway::hash_api_key("one")];
        settings.require_key_on_loopback = true;
    })
    .await;
    let json = ("content-type", "application/json");
    let rows: [(&str, Headers<'_>, u16); 4] = [
        (CHAT, &[json, ("authorization", "Bearer one")], 413),
        (CHAT, &[json], 401),
        (CHAT, &[("authorization", "Bearer one")], 415),
        ("/v1/nowhere", &[("authorization", "Bearer one")], 404),
    ];
    for (path, headers, status) in rows {
        let body = vec![b' '; 20 << 20];
        let answer = open(gateway.address, "POST", path, headers, body).await.whole().await;
        assert_eq!(answer.refusal().0, status);
    }
}

#[tokio::test]
async fn names_of_other_hosts_do_not_come_in_without_a_key() {
    let gateway = Gateway::start(Says::Text("x")).await;
    let ask = async |host: &str| {
        open(gateway.address, "GET", "/v1/models", &[("host", host)], vec![]).await.whole().await
    };
    for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:80", "my-mac", "api.localhost"] {
        assert_eq!(ask(host).await.status, 200, "{host}");
    }
    assert_eq!(ask("evil.example:8080").await.refusal().0, 403);
}
