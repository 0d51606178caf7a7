//! Where the gateway of the node with rank 0 is, as the supervisor wrote it down.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use axum::http::HeaderValue;
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt,
    sync::{Mutex, watch},
};

/// Least time between two looks at the file: a change is seen soon, and a busy proxy does not ask
/// the disk for each request.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest file that is read; a real one has about a hundred bytes.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// The other gateway, as one version of the file has it.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// `Bearer KEY`.
    pub(super) authorization: HeaderValue,
    /// What `Host` says.
    pub(super) host: HeaderValue,
    /// How often it was found dead; whoever waits for it then gives up.
    pub(super) losses: watch::Sender<u64>,
}

impl fmt::Debug for Upstream {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    address: SocketAddr,
    key: String,
}

/// The file, and what was last found in it.
pub(super) struct UpstreamFile {
    path: PathBuf,
    found: Mutex<Found>,
}

struct Found {
    looked: Option<Instant>,
    /// Which version of the file `upstream` is from, if there is one.
    version: Option<Version>,
    /// Or why there is none.
    upstream: Result<Arc<Upstream>, String>,
    /// All that may still be in use, this one included.
    known: Vec<Weak<Upstream>>,
}

/// Differs after every change of the file, of its owner and mode too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    size_bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

const UNKNOWN: &str = "the node with rank 0 is not known yet";

impl UpstreamFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let found =
            Found { looked: None, version: None, upstream: Err(UNKNOWN.into()), known: Vec::new() };
        Self { path, found: Mutex::new(found) }
    }

    /// The other gateway, or why it can't be asked.
    pub(super) async fn current(&self) -> Result<Arc<Upstream>, String> {
        let mut found = self.found.lock().await;
        let now = Instant::now();
        let fresh = |looked: Instant| now.duration_since(looked) < LOOK_EVERY;
        if !found.looked.is_some_and(fresh) {
            found.looked = Some(now);
            self.look(&mut found).await;
        }
        found.upstream.clone()
    }

    /// All that somebody may still wait for.
    pub(super) async fn known(&self) -> Vec<Arc<Upstream>> {
        let mut found = self.found.lock().await;
        found.known.retain(|upstream| upstream.strong_count() > 0);
        found.known.iter().filter_map(Weak::upgrade).collect()
    }

    async fn look(&self, found: &mut Found) {
        let version = tokio::fs::metadata(&self.path).await.ok().map(|metadata| Version {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        });
        let upstream = match version {
            Some(_) if version == found.version => return,
            Some(_) => read(&self.path).await.map(Arc::new),
            None => Err(UNKNOWN.into()),
        };
        match (&upstream, &found.upstream) {
            (Ok(upstream), _) => {
                tracing::info!(address = %upstream.address, "the node with rank 0 is known");
                found.known.retain(|upstream| upstream.strong_count() > 0);
                found.known.push(Arc::downgrade(upstream));
            }
            (Err(reason), Err(before)) if reason == before => {}
            (Err(reason), _) => tracing::warn!("{reason}"),
        }
        // One that could not be read is tried again.
        found.version = version.filter(|_| upstream.is_ok());
        found.upstream = upstream;
    }
}

/// The reasons hold nothing of the content, which is a secret.
async fn read(path: &Path) -> Result<Upstream, String> {
    let unusable = |why: &str| format!("{} can't be used: {why}", path.display());
    let text = read_bounded(path).await.map_err(|error| unusable(&error.to_string()))?;
    let written: Written = serde_json::from_slice(&text)
        .map_err(|_| unusable("it is not an object with an address and a key"))?;
    let is_key = !written.key.is_empty() && written.key.bytes().all(|b| b.is_ascii_graphic());
    let bearer = HeaderValue::try_from(format!("Bearer {}", written.key)).ok().filter(|_| is_key);
    let mut authorization = bearer.ok_or_else(|| unusable("its key is none"))?;
    authorization.set_sensitive(true);
    let host = HeaderValue::try_from(written.address.to_string())
        .map_err(|_| unusable("its address is none"))?;
    let losses = watch::Sender::new(0);
    Ok(Upstream { address: written.address, authorization, host, losses })
}

async fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).await?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is over {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_whole_file_of_the_right_form_is_used_and_no_reason_tells_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upstream.json");
        let good = br#"{"address":"169.254.7.1:52300","key":"secret"}"#;
        std::fs::write(&path, good).unwrap();
        let upstream = read(&path).await.unwrap();
        assert_eq!(upstream.address.to_string(), "169.254.7.1:52300");
        assert_eq!(upstream.authorization, "Bearer secret");
        let shown = format!("{upstream:?} {:?}", upstream.authorization);
        assert!(!shown.contains("secret"), "{shown}");

        let long = format!(r#"{{"address":"1.1.1.1:1","key":"{}"}}"#, "secret".repeat(1_000));
        for bad in [
            "",
            "secret",
            r#"{"address":"169.254.7.1","key":"secret"}"#,
            r#"{"address":"secret:1","key":"secret"}"#,
            r#"{"address":"1.1.1.1:1","key":""}"#,
            r#"{"address":"1.1.1.1:1","key":"secret\n"}"#,
            r#"{"address":"1.1.1.1:1","key":"secret","more":1}"#,
            r#"{"address":"1.1.1.1:1"}"#,
            &long,
        ] {
            std::fs::write(&path, bad).unwrap();
            let reason = read(&path).await.unwrap_err();
            assert!(reason.contains("upstream.json") && !reason.contains("secret"), "{reason}");
        }
    }
}
