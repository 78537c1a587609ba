//! The admin port: liveness, readiness, metrics. It shows no request and takes no order.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::net::body::AnswerBody;
use crate::net::listen::Arrived;
use crate::telemetry::Metrics;

pub(super) struct Admin {
    journal: Journal,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
}

impl Admin {
    pub(super) fn new(journal: Journal, metrics: Arc<Metrics>, stopping: watch::Receiver<bool>) -> Self {
        Self { journal, metrics, stopping }
    }

    pub(super) fn respond(&self, arrived: &Arrived) -> Response<AnswerBody> {
        if arrived.method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n");
        }
        match arrived.uri.path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/metrics" => {
                let mut response = text(StatusCode::OK, &self.metrics.render());
                let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, version);
                response
            }
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n"),
        }
    }

    /// The port opens when everything else is up, so what is left to ask is whether it still works.
    fn readiness(&self) -> Response<AnswerBody> {
        let unready = match self.journal.failed() {
            Some(error) => Some(error.to_string()),
            None => (*self.stopping.borrow()).then(|| "stopping".to_owned()),
        };
        match unready {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}\n")),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(body.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
