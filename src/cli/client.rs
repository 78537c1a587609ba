//! The command line's side of the REST API.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use super::Common;
use crate::card::visible;
use crate::net::body::Outgoing;
use crate::net::reach::Own;
use crate::net::upstream::{Endpoint, Pool, UpstreamBody, UpstreamOptions};
use crate::plane::aws::Endpoints;
use crate::secret::Secret;

/// Where the API is and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    /// Base URL of the approver API (else that of the server running on the data directory).
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_API")]
    api: Option<String>,
    /// File that holds the approver token (else the variable COUNTERSIGN_TOKEN is read).
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the CA to trust (else `ca.pem` of the data directory).
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CA")]
    ca: Option<PathBuf>,
}

/// One approver's connection to the API. Its methods block.
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    pool: Pool,
    endpoint: Endpoint,
    authority: String,
    token: Secret,
}

/// The API said no; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    pub(super) message: String,
}

impl Client {
    pub(super) fn new(connection: &Connection, common: &Common) -> anyhow::Result<Self> {
        let url = connection.url(common)?;
        let token = connection.token()?;
        let extra_ca = connection.ca.clone().or_else(|| {
            let ca = common.data_dir().ok()?.join("ca.pem");
            (url.starts_with("https:") && ca.exists()).then_some(ca)
        });
        Self::open(&url, token, extra_ca)
    }

    /// A client of a server whose URL and token are known.
    pub(super) fn with_token(url: &str, token: &str) -> anyhow::Result<Self> {
        Self::open(url, Secret::new(token), None)
    }

    fn open(url: &str, token: Secret, extra_ca: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(endpoint) = Endpoints::parse(url) else {
            bail!("`{url}` is no base URL: give --api such as `http://127.0.0.1:8701`");
        };
        let authority = url.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/')).to_owned();
        let pool = Pool::new(UpstreamOptions { extra_ca, ..UpstreamOptions::default() }, Own::default())?;
        // A worker of its own keeps pooled connections alive between two calls.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, pool, endpoint, authority, token })
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.exchange("GET", path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.exchange("POST", path, Some(body))
    }

    /// Calls `event` with the data of each server-sent event until the stream ends.
    pub(super) fn events(&self, path: &str, mut event: impl FnMut(&Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut body = self.runtime.block_on(self.send("GET", path, None))?;
        let mut text = Vec::new();
        while let Some(frame) = self.runtime.block_on(body.frame()) {
            let Ok(chunk) = frame.context("the server closed the stream")?.into_data() else { continue };
            text.extend_from_slice(&chunk);
            while let Some(end) = memchr::memmem::find(&text, b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block);
                if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                    event(&serde_json::from_str(data)?)?;
                }
            }
        }
        Ok(())
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let exchange = async { anyhow::Ok(self.send(method, path, body).await?.collect().await?.to_bytes()) };
        let body = self.runtime.block_on(exchange)?;
        serde_json::from_slice(&body).context("the server's answer is no JSON: is this the approver API?")
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<UpstreamBody> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        let mut content = Bytes::new();
        if let Some(body) = body {
            content = Bytes::from(body.to_string());
            request =
                request.header(header::CONTENT_TYPE, "application/json").header(header::CONTENT_LENGTH, content.len());
        }
        let request = request.body(Outgoing::whole(content)).context("the token or the URL cannot be sent")?;
        let response = self
            .pool
            .send(&self.endpoint, Box::new(request))
            .await
            .with_context(|| format!("no answer from {}: is the server running?", self.authority))?;
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::OK {
            return Ok(body);
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let told: Option<Value> = serde_json::from_slice(&body).ok();
        let message = told.as_ref().and_then(|told| told.get("message")).and_then(Value::as_str);
        let message = message.map_or_else(|| format!("the server answered {}", parts.status), visible);
        Err(Refused { message }.into())
    }
}

impl Connection {
    /// As given; else what the running server wrote; else what the configuration says.
    fn url(&self, common: &Common) -> anyhow::Result<String> {
        if let Some(url) = &self.api {
            return Ok(url.clone());
        }
        let hint = "give --api URL, or --data DIR of the running server";
        let data = common.data_dir().context(hint)?;
        if let Some(url) = crate::serve::running(&data).and_then(|running| running.api) {
            return Ok(url);
        }
        let listen = common.load().context(hint)?.listen;
        Ok(format!("{}://{}", if listen.api_tls { "https" } else { "http" }, listen.api))
    }

    fn token(&self) -> anyhow::Result<Secret> {
        let text = match &self.token_file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?,
            None => std::env::var("COUNTERSIGN_TOKEN")
                .context("no approver token: set COUNTERSIGN_TOKEN or give --token-file FILE")?,
        };
        Ok(Secret::new(text.trim()))
    }
}
