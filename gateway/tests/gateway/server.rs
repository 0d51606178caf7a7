//! One gateway under test, with its rank and its folder.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use serde_json::{Value, json};
use tandem_gateway::{GatewayError, GatewaySetup, Settings};
use tokenizers::Tokenizer;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{
    fake_rank::{FakeRank, Script},
    http::{Answer, Arriving, open},
    model_folder,
};

/// Far more than anything here takes; only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Gateway {
    client: Client,
    pub(crate) rank: FakeRank,
    pub(crate) tokenizer: Tokenizer,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), GatewayError>>,
    dir: tempfile::TempDir,
}

/// Asks one address.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

impl Deref for Gateway {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What the rank says.
pub(crate) enum Says<'a> {
    /// This text, then the end token.
    Text(&'a str),
    Drawn,
}

impl Gateway {
    /// Starts with default settings and waits until it serves.
    pub(crate) async fn start(says: Says<'_>) -> Self {
        Self::start_with(says, None, |_| {}).await
    }

    /// `token_budget`: the rank pauses after so many tokens, until the test allows more.
    pub(crate) async fn start_with(
        says: Says<'_>,
        token_budget: Option<usize>,
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::start_as(says, token_budget, |setup| adjust(&mut setup.settings)).await
    }

    /// As [`Self::start_with`], with all of the setup open to change.
    pub(crate) async fn start_as(
        says: Says<'_>,
        token_budget: Option<usize>,
        adjust: impl FnOnce(&mut GatewaySetup),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = model_folder::write(dir.path());
        let script = match says {
            Says::Drawn => Script::Drawn,
            Says::Text(text) => Script::Tokens(ids(&tokenizer, text)),
        };
        let socket = dir.path().join("rank-0.sock");
        let rank = FakeRank::start(&socket, script, token_budget);
        let mut setup = GatewaySetup {
            settings: Settings::default(),
            model_dir: dir.path().to_owned(),
            model_id: "tiny/model".into(),
            aliases: vec!["gpt-4o".into()],
            rank_socket: socket,
            stands_in_for: Vec::new(),
            canary_key_hash: None,
            peer_listen: None,
            peer_key_hash: None,
            records: false,
        };
        adjust(&mut setup);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(tandem_gateway::run_on(listener, setup, shutdown));
        let client = Client { address };
        let gateway = Self { client, rank, tokenizer, stop: Some(stop), task, dir };
        gateway.until_health(200).await;
        gateway
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("rank-0.sock")
    }

    /// As SIGTERM does.
    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) {
        let end = tokio::time::timeout(PATIENCE, self.task).await;
        end.expect("the gateway does not end").unwrap().unwrap();
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }
}

impl Client {
    /// Waits until `/health` answers so.
    pub(crate) async fn until_health(&self, status: u16) {
        let poll = async {
            while self.get("/health").await.status.as_u16() != status {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.expect("health never changed");
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        open(self.address, "GET", path, &[], Vec::new()).await.whole().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.open(path, body).await.whole().await
    }

    pub(crate) async fn open(&self, path: &str, body: &Value) -> Arriving {
        let headers = [("content-type", "application/json")];
        let request = open(self.address, "POST", path, &headers, body.to_string().into_bytes());
        tokio::time::timeout(PATIENCE, request).await.expect("no answer began")
    }

    pub(crate) async fn chat(&self, more: Value) -> Answer {
        self.post("/v1/chat/completions", &chat_body(more)).await
    }

    pub(crate) async fn chat_stream(&self, more: Value) -> Arriving {
        let mut body = chat_body(more);
        body["stream"] = true.into();
        self.open("/v1/chat/completions", &body).await
    }
}

/// A good request with changes; `null` takes a field out.
pub(crate) fn chat_body(more: Value) -> Value {
    let mut body = json!({"model": "tiny/model", "messages": [{"role": "user", "content": "Hi"}]});
    merge(&mut body, more);
    body
}

pub(crate) fn completion_body(more: Value) -> Value {
    let mut body = json!({"model": "tiny/model", "prompt": "the quick"});
    merge(&mut body, more);
    body
}

fn merge(body: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("not an object") };
    for (name, value) in more {
        body[name] = value;
    }
}

/// Ids of a text and the end token.
pub(crate) fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    ids.push(tokenizer.token_to_id(model_folder::END).unwrap());
    ids
}
