//! Owns the handle of one running S3.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::front;
use super::store::Store;
use crate::sandbox::clock::Clock;
use crate::sandbox::traffic::Traffic;

/// How to start an [`S3`].
#[derive(Clone)]
pub struct Options {
    /// The clock that presigned URLs die by; without one it is the machine's.
    ///
    /// Signers have to go by the same clock then.
    pub clock: Option<Clock>,
    /// Where requests are counted, as `s3`.
    pub traffic: Traffic,
    /// Where everything lies; the next start with the same root finds it again.
    pub root: PathBuf,
    /// The buckets; no others can be made.
    pub buckets: Vec<String>,
    /// Those of them that lie in a folder of their own, which other sandboxes may use at the same time.
    pub elsewhere: BTreeMap<String, PathBuf>,
    /// The one access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Another access key, with the same secret, whose owner may not list the buckets.
    pub unlisting_key: Option<String>,
}

/// A running S3 for path-style requests; clones share it.
#[derive(Clone)]
pub struct S3 {
    url: String,
    shared: Arc<Shared>,
    closing: Arc<watch::Sender<bool>>,
}

pub(super) struct Shared {
    pub(super) clock: Option<Clock>,
    pub(super) unlisting_key: Option<String>,
    store: Store,
    violations: Mutex<Vec<String>>,
}

impl S3 {
    /// Starts S3 on a port of 127.0.0.1.
    pub async fn start(options: Options) -> io::Result<S3> {
        let Options { clock, traffic, root, buckets, elsewhere, access_key, secret_key, unlisting_key } = options;
        let store = Store::open(&root, &buckets, &elsewhere, clock.clone().unwrap_or_default())?;
        let keys = [Some(access_key), unlisting_key.clone()].into_iter().flatten().collect();
        let shared = Arc::new(Shared { clock, unlisting_key, store, violations: Mutex::default() });
        let service = service(&shared, keys, &secret_key);
        let router = Router::new()
            .fallback(serve)
            .with_state(service)
            .layer(middleware::from_fn_with_state(Arc::clone(&shared), front::check));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let closing = watch::Sender::new(false);
        let mut closed = closing.subscribe();
        let closed = async move {
            // An error says that the handle is gone, and then it is time as well.
            let _ = closed.wait_for(|closing| *closing).await;
        };
        let router = traffic.watch("s3", router);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
                tracing::error!("the sandbox's S3 stopped serving: {error}");
            }
        });
        Ok(S3 { url, shared, closing: Arc::new(closing) })
    }

    /// The endpoint URL for S3 clients, which must force path style.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where a bucket's bytes lie, under names that say nothing: [`keys`](Self::keys) and [`object`](Self::object) know.
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.shared.store.objects.root(bucket).map(|root| root.blobs.join(bucket)).unwrap_or_default()
    }

    /// All keys of a bucket, sorted; none if there is no such bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.shared.store.objects.in_bucket(bucket, |keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// The bytes of an object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let object = self.shared.store.objects.find(bucket, key).ok()??;
        std::fs::read(object.blob.path()).ok()
    }

    /// Operations that our own clients asked for and that are not here.
    pub fn violations(&self) -> Vec<String> {
        self.shared.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the port; what is stored stays.
    pub async fn shutdown(&self) {
        self.closing.send_replace(true);
    }
}

impl Shared {
    pub(super) fn violation(&self, asked: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

fn service(shared: &Shared, access_keys: Vec<String>, secret_key: &str) -> S3Service {
    let mut builder = S3ServiceBuilder::new(shared.store.clone());
    let mut auth = SimpleAuth::new();
    for key in access_keys {
        auth.register(key, secret_key.to_owned().into());
    }
    builder.set_auth(auth);
    if shared.clock.is_some() {
        // The clock may be far ahead of the machine's, and so may be what its users sign.
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::MAX;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    }
    builder.build()
}

async fn serve(State(service): State<S3Service>, request: Request) -> Response {
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::warn!("S3 could not answer: {error:?}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
