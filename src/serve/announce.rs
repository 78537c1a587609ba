//! Tells people, tests and the command line where the server listens.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The addresses of a running server.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) agents: Option<SocketAddr>,
    pub(super) agents_tls: Option<SocketAddr>,
    pub(super) agents_socket: Option<PathBuf>,
    pub(super) proxy: Option<SocketAddr>,
    pub(super) transparent: Option<SocketAddr>,
    pub(super) api: SocketAddr,
    pub(super) api_tls: bool,
    pub(super) admin: SocketAddr,
    pub(super) postgres: Option<SocketAddr>,
}

/// Where a running server is reached from this machine, as `run.json` says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) agents: Option<String>,
    pub(crate) agents_tls: Option<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) transparent: Option<String>,
    pub(crate) api: Option<String>,
}

/// What `run.json` of the data directory says; `None` where no server runs or ever ran.
pub(crate) fn running(data: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(data.join(RUN_FILE)).ok()?;
    let run: Value = serde_json::from_str(&text).ok()?;
    let url = |name: &str| run.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Running {
        agents: url("agents"),
        agents_tls: url("agents_tls"),
        proxy: url("proxy"),
        transparent: url("transparent"),
        api: url("api"),
    })
}

impl Bound {
    /// All of them, for whoever must not connect to one.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let Self { agents, agents_tls, proxy, transparent, postgres, api, admin, .. } = self;
        let mut addresses = vec![*api, *admin];
        addresses.extend([agents, agents_tls, proxy, transparent, postgres].into_iter().copied().flatten());
        addresses
    }

    /// Prints one line per listener, and writes `run.json` whole or not at all.
    pub(super) fn publish(&self, data: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
        let listeners = [
            ("agents", self.agents, "http"),
            ("agents_tls", self.agents_tls, "https"),
            ("proxy", self.proxy, "http"),
            ("transparent", self.transparent, "https"),
            ("postgres", self.postgres, "postgres"),
            ("api", Some(self.api), if self.api_tls { "https" } else { "http" }),
            ("admin", Some(self.admin), "http"),
        ];
        let mut run = json!({ "pid": std::process::id() });
        for (name, address, scheme) in listeners {
            let Some(address) = address else { continue };
            writeln!(out, "{} listening on {}", name.replace('_', " "), url(address, scheme))?;
            if let Some(members) = run.as_object_mut() {
                members.insert(name.to_owned(), url(reachable(address), scheme).into());
            }
        }
        if let Some(path) = &self.agents_socket {
            writeln!(out, "agents listening on {}", path.display())?;
            if let Some(members) = run.as_object_mut() {
                members.insert("agents_socket".to_owned(), path.to_string_lossy().into());
            }
        }
        out.flush()?;
        let mut file = tempfile::NamedTempFile::new_in(data)?;
        writeln!(file, "{run}")?;
        file.persist(data.join(RUN_FILE))?;
        Ok(())
    }

    /// Takes `run.json` away after a clean stop; after another one it stays and is stale.
    pub(super) fn withdraw(data: &Path) {
        if let Err(error) = std::fs::remove_file(data.join(RUN_FILE)) {
            tracing::debug!(%error, "run.json could not be removed");
        }
    }
}

/// An address that means every interface is reached by the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn url(address: SocketAddr, scheme: &str) -> String {
    format!("{scheme}://{address}")
}

const RUN_FILE: &str = "run.json";
