//! An HTTP/1.1 server of a few lines: bodies with a length or in chunks, answers as bytes, one request a connection.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a client asked.
#[derive(Debug)]
pub(in crate::agent) struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the server says.
pub(in crate::agent) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Close the connection when so many bytes of the body are sent.
    pub cut: Option<usize>,
}

impl Request {
    /// The value of a header.
    pub(in crate::agent) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// Without headers and body.
    pub(in crate::agent) fn status(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new(), cut: None }
    }

    /// 200 and a body.
    pub(in crate::agent) fn bytes(body: Vec<u8>) -> Self {
        Answer { body, ..Answer::status(200) }
    }

    /// With this header.
    pub(in crate::agent) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Serves on the loopback address until the runtime ends; returns its URL, which ends in a slash.
pub(in crate::agent) async fn serve(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { connection(stream, &*answer).await });
        }
    });
    format!("http://{address}/")
}

async fn connection(stream: TcpStream, answer: &impl Fn(Request) -> Answer) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let request = read(&mut stream).await?;
    let answer = answer(request);
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let sent = answer.cut.unwrap_or(answer.body.len());
    stream.write_all(&answer.body[..sent]).await.ok()?;
    stream.shutdown().await.ok()
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let start = line(stream).await?;
    let mut words = start.split_whitespace().map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, headers: Vec::new(), body: Vec::new() };
    while let Some((name, value)) = line(stream).await?.split_once(':') {
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = request.header("content-length").map(|length| length.parse().expect("a number"));
    match length {
        Some(length) => read_into(stream, &mut request.body, length).await?,
        None if request.header("transfer-encoding").is_some() => loop {
            let size = usize::from_str_radix(&line(stream).await?, 16).expect("a size");
            read_into(stream, &mut request.body, size).await?;
            line(stream).await?;
            if size == 0 {
                break;
            }
        },
        None => {}
    }
    Some(request)
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    Some(line.trim_end().to_owned())
}

async fn read_into(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>, size: usize) -> Option<()> {
    let from = body.len();
    body.resize(from + size, 0);
    stream.read_exact(&mut body[from..]).await.ok().map(drop)
}
