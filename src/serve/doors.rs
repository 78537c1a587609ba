//! The listening sockets and what stands behind each.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use http::{HeaderValue, Response, StatusCode, header};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::admin::Admin;
use super::announce::Bound;
use super::bind;
use super::notify::Callbacks;
use crate::channel::api::Api;
use crate::channel::page::Page;
use crate::config::{Config, Listen};
use crate::credential::agent::Agents;
use crate::gate::Gate;
use crate::net::body::{AnswerBody, Outgoing};
use crate::net::door::Door;
use crate::net::leaf::Interception;
use crate::net::listen::{self, Arrived, Limits, OnRefusal, PROXY_CREDENTIALS};
use crate::net::reach::Own;
use crate::net::socket::Listener;
use crate::plane::aws::Plane;
use crate::plane::proxy::{Parts, Proxy};
use crate::telemetry::Metrics;
use crate::time::Clock;

/// What it takes to be spoken to in another's name.
pub(super) struct Intercepting {
    interception: Arc<Interception>,
    proxy: Arc<Proxy>,
}

impl Intercepting {
    /// `None` where nobody listens for that.
    pub(super) fn open(
        config: &Config,
        gate: &Arc<Gate>,
        clock: &Clock,
        metrics: &Arc<Metrics>,
        own: &Own,
    ) -> anyhow::Result<Option<Self>> {
        if !config.listen.intercepts() {
            return Ok(None);
        }
        let interception = Arc::new(Interception::open(&config.interception, clock.clone())?);
        let parts = Parts {
            interception: Arc::clone(&interception),
            agents: Arc::new(Agents::open(&config.data)?),
            gate: Arc::clone(gate),
            own: own.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
        };
        Ok(Some(Self { interception, proxy: Proxy::new(config.proxy.clone(), parts) }))
    }
}

/// The listening sockets, and TLS where it is spoken.
pub(super) struct Doors {
    bound: Bound,
    agents: Vec<(Listener, Door)>,
    proxy: Option<(Listener, Door, Arc<Proxy>)>,
    api: (Listener, Option<Arc<ServerConfig>>),
    admin: Listener,
    /// What arrives at the API's listener from Slack.
    pub(super) callbacks: Callbacks,
}

impl Doors {
    pub(super) async fn open(listen: &Listen, intercepting: Option<Intercepting>) -> anyhow::Result<Self> {
        let needs_tls = listen.agents_tls.is_some() || listen.api_tls;
        let tls = match needs_tls {
            true => Some(crate::net::tls::server_config(&listen.certificate, &listen.key)?),
            false => None,
        };
        let (api, admin) = (bind(listen.api).await?, bind(listen.admin).await?);
        let mut bound = Bound {
            agents: None,
            agents_tls: None,
            agents_socket: None,
            proxy: None,
            transparent: None,
            postgres: None,
            api: api.local_addr()?,
            api_tls: listen.api_tls,
            admin: admin.local_addr()?,
        };
        let mut agents = Vec::new();
        if let Some(address) = listen.agents {
            let listener = bind(address).await?;
            bound.agents = Some(listener.local_addr()?);
            agents.push((Listener::from(listener), Door::Endpoint { tls: None, http2: true }));
        }
        if let (Some(address), Some(tls)) = (listen.agents_tls, &tls) {
            let listener = bind(address).await?;
            bound.agents_tls = Some(listener.local_addr()?);
            agents.push((Listener::from(listener), Door::Endpoint { tls: Some(Arc::clone(tls)), http2: false }));
        }
        if let Some(path) = &listen.agents_socket {
            bound.agents_socket = Some(std::path::absolute(path)?);
            agents.push((unix(path)?, Door::Endpoint { tls: None, http2: true }));
        }
        let mut proxy_door = None;
        if let Some(Intercepting { interception, proxy }) = intercepting {
            if let Some(address) = listen.transparent {
                let listener = bind(address).await?;
                bound.transparent = Some(listener.local_addr()?);
                agents.push((Listener::from(listener), Door::Transparent(Arc::clone(&interception))));
            }
            if let Some(address) = listen.proxy {
                let listener = bind(address).await?;
                bound.proxy = Some(listener.local_addr()?);
                let door = Door::Proxy { interception, on_connect: proxy.on_connect() };
                proxy_door = Some((Listener::from(listener), door, proxy));
            }
        }
        let api_tls = tls.filter(|_| listen.api_tls);
        let callbacks = Callbacks::default();
        Ok(Self { bound, agents, proxy: proxy_door, api: (api.into(), api_tls), admin: admin.into(), callbacks })
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound.clone()
    }

    pub(super) fn serve(
        self,
        limits: Limits,
        metrics: &Arc<Metrics>,
        stopping: &watch::Receiver<bool>,
        plane: Option<Arc<Plane>>,
        (api, page): (Arc<Api>, Option<Arc<Page>>),
        admin: Arc<Admin>,
    ) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        if let Some(plane) = plane {
            let refusing = Arc::clone(&plane);
            let on_refusal: OnRefusal = Arc::new(move |peer, status, reason| refusing.unreadable(peer, status, reason));
            for (listener, door) in self.agents {
                let plane = Arc::clone(&plane);
                let answer = move |arrived| Arc::clone(&plane).respond(arrived);
                let (limits, metrics, on_refusal) = (limits.clone(), Arc::clone(metrics), Arc::clone(&on_refusal));
                serving.spawn(listen::serve(listener, door, limits, metrics, on_refusal, stopping.clone(), answer));
            }
            if let Some((listener, door, proxy)) = self.proxy {
                let answer = move |arrived| through_proxy(Arc::clone(&proxy), Arc::clone(&plane), arrived);
                let (limits, metrics) = (limits.clone(), Arc::clone(metrics));
                serving.spawn(listen::serve(listener, door, limits, metrics, on_refusal, stopping.clone(), answer));
            }
        }
        // `countersign_connections` counts agents alone.
        let uncounted = Arc::new(Metrics::default());
        let unheard: OnRefusal = Arc::new(|_, _, _| {});
        let (listener, tls) = self.api;
        let door = Door::Endpoint { tls, http2: false };
        let callbacks = self.callbacks;
        let answer = move |arrived: Arrived| {
            let (api, page, callbacks) = (Arc::clone(&api), page.clone(), Arc::clone(&callbacks));
            async move {
                let callback = arrived.uri.path().strip_prefix("/v1/slack/").and_then(|name| callbacks.get(name));
                if let Some(callback) = callback {
                    return callback.respond(arrived).await;
                }
                match page.filter(|_| Page::serves(arrived.uri.path())) {
                    Some(page) => page.respond(arrived).await,
                    None => api.respond(arrived).await,
                }
            }
        };
        let (metrics, on_refusal) = (Arc::clone(&uncounted), Arc::clone(&unheard));
        serving.spawn(listen::serve(listener, door, limits.clone(), metrics, on_refusal, stopping.clone(), answer));
        let answer = move |arrived| std::future::ready(admin.respond(&arrived));
        let door = Door::plain();
        serving.spawn(listen::serve(self.admin, door, limits, uncounted, unheard, stopping.clone(), answer));
        serving
    }
}

/// A request at the proxy's listener: on an intercepted connection, or with its host in its target.
async fn through_proxy(proxy: Arc<Proxy>, plane: Arc<Plane>, mut arrived: Arrived) -> Response<AnswerBody> {
    if arrived.meant.is_none() {
        let authorization = arrived.headers.get(header::PROXY_AUTHORIZATION).map(|value| value.to_str().unwrap_or(""));
        match proxy.plain(&arrived.uri, authorization, arrived.peer) {
            Ok(meant) => arrived.meant = Some(Arc::new(meant)),
            Err((status, reason)) => return refusal(&arrived, status, reason),
        }
    }
    plane.respond(arrived).await
}

fn refusal(arrived: &Arrived, status: &str, reason: &str) -> Response<AnswerBody> {
    arrived.line.close_after();
    let mut response = Response::new(Outgoing::whole(format!("{reason}\n")));
    let code = status.split(' ').next().unwrap_or_default();
    *response.status_mut() = StatusCode::from_bytes(code.as_bytes()).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == PROXY_CREDENTIALS {
        let challenge = HeaderValue::from_static("Basic realm=\"countersign\"");
        response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
    }
    response
}

fn unix(path: &Path) -> anyhow::Result<Listener> {
    Listener::unix(path).with_context(|| format!("cannot listen on `{}`", path.display()))
}
