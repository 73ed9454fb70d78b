//! A bucket for tests: real HTTP on loopback, S3's rules for presigned writes, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::access::{Access, Answer, Ask};

/// What the bucket does with the next request instead of serving it.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Status(u16),
    /// Closes after half of the answer's body.
    Cut,
    /// Closes without an answer.
    Hangup,
}

/// Answers a body with status and body; knows the bucket's URL.
pub(crate) type Broker = fn(&mut State, &str, &str) -> (u16, String);

#[derive(Default)]
pub(crate) struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    pub faults: VecDeque<Fault>,
    /// Method and path of each request.
    pub requests: Vec<String>,
    pub asked: Vec<Ask>,
    /// Answers for `POST /cache`, for tests of the stage.
    pub broker: Option<Broker>,
}

#[derive(Clone)]
pub(crate) struct Bucket {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl Bucket {
    pub async fn start() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bucket = Bucket { url, state: Arc::default() };
        let serving = bucket.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let bucket = serving.clone();
                tokio::spawn(async move { bucket.serve(connection).await });
            }
        });
        bucket
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    async fn serve(&self, connection: TcpStream) {
        let mut connection = BufReader::new(connection);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if connection.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let mut words = head[0].split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let header = |name: &str| {
                let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
                line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
            };
            let length: Option<usize> = header("content-length").map(|length| length.parse().unwrap());
            let mut body = vec![0; length.unwrap_or(0)];
            if connection.read_exact(&mut body).await.is_err() {
                return;
            }
            let (fault, (status, etag, answer)) = self.with(|state| {
                state.requests.push(format!("{method} {}", path.split('?').next().unwrap()));
                let fault = state.faults.pop_front();
                let answer = match (&fault, method.as_str()) {
                    (Some(Fault::Status(status)), _) => {
                        (*status, None, format!("<Error><Code>Code{status}</Code></Error>").into_bytes())
                    }
                    (Some(Fault::Hangup), _) => (0, None, Vec::new()),
                    // As S3: a body of unknown length is refused.
                    (_, "PUT") if length.is_none() => (411, None, Vec::new()),
                    (_, "PUT") if header("x-signed").as_deref() != Some("yes") => (403, None, Vec::new()),
                    (_, "PUT") => state.put(&path, body),
                    (_, "POST") => {
                        let answer =
                            state.broker.expect("no broker")(state, &self.url, &String::from_utf8(body).unwrap());
                        (answer.0, None, answer.1.into_bytes())
                    }
                    _ => match state.objects.get(path.trim_start_matches('/')) {
                        Some(object) => (200, None, object.clone()),
                        None => (404, None, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
                    },
                };
                (fault, answer)
            });
            if status == 0 {
                return;
            }
            let etag = etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
            let head = format!("HTTP/1.1 {status} X\r\n{etag}Content-Length: {}\r\n\r\n", answer.len());
            let sent = if matches!(fault, Some(Fault::Cut)) { &answer[..answer.len() / 2] } else { &answer[..] };
            if connection.write_all(head.as_bytes()).await.is_err() || connection.write_all(sent).await.is_err() {
                return;
            }
            if matches!(fault, Some(Fault::Cut)) {
                return;
            }
        }
    }
}

impl State {
    fn put(&mut self, path: &str, body: Vec<u8>) -> (u16, Option<String>, Vec<u8>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        if field("size").is_some_and(|size| size != body.len().to_string()) {
            return (403, None, Vec::new());
        }
        let etag = format!("\"{:x}-{}\"", body.len(), field("part").unwrap_or("whole"));
        match (field("upload"), field("part")) {
            (Some(upload), Some(part)) => match self.uploads.get_mut(upload) {
                Some(parts) => drop(parts.insert(part.parse().unwrap(), body)),
                None => return (404, None, Vec::new()),
            },
            _ => drop(self.objects.insert(path.trim_start_matches('/').to_owned(), body)),
        }
        (200, Some(etag), Vec::new())
    }

    /// What a broker answers for the object called `object`.
    pub fn answer(&mut self, url: &str, object: &str, ask: Ask) -> Result<Answer, String> {
        self.asked.push(ask.clone());
        let headers = vec![("x-signed".to_owned(), "yes".to_owned()), ("content-length".to_owned(), "1".to_owned())];
        Ok(match ask {
            Ask::Restore { key } => Answer::Url { url: format!("{url}/{object}{key}"), headers: Vec::new() },
            Ask::Save { size } => Answer::Url { url: format!("{url}/{object}?size={size}"), headers },
            Ask::Begin => {
                let upload = format!("upload{}", self.uploads.len());
                self.uploads.insert(upload.clone(), BTreeMap::new());
                Answer::Begun { upload }
            }
            Ask::Part { upload, number, size } => {
                Answer::Url { url: format!("{url}/{object}?upload={upload}&part={number}&size={size}"), headers }
            }
            Ask::Complete { upload, etags } => {
                let parts = self.uploads.remove(&upload).ok_or("no such upload")?;
                let expected = parts.iter().map(|(number, part)| format!("\"{:x}-{number}\"", part.len()));
                if !expected.eq(etags) || !parts.keys().copied().eq(1..=parts.len().try_into().unwrap()) {
                    return Err("InvalidPart".to_owned());
                }
                self.objects.insert(object.to_owned(), parts.into_values().flatten().collect());
                Answer::Done
            }
            Ask::Abort { upload } => {
                self.uploads.remove(&upload);
                Answer::Done
            }
        })
    }
}

impl Access for Bucket {
    async fn ask(&self, entry: usize, ask: Ask) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        Ok(self.with(|state| state.answer(&self.url, &format!("entry{entry}-"), ask))?)
    }
}
