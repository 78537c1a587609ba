//! Tells people, tests and the command line where the server listens.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

/// The addresses of a running server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) agents: Option<SocketAddr>,
    pub(super) agents_tls: Option<SocketAddr>,
    pub(super) api: SocketAddr,
    pub(super) api_tls: bool,
    pub(super) admin: SocketAddr,
}

impl Bound {
    /// Prints one line per listener, and writes `run.json` whole or not at all.
    pub(super) fn publish(&self, data: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
        let urls = [
            ("agents", self.agents.map(|address| url(address, false))),
            ("agents_tls", self.agents_tls.map(|address| url(address, true))),
            ("api", Some(url(self.api, self.api_tls))),
            ("admin", Some(url(self.admin, false))),
        ];
        let mut run = json!({ "pid": std::process::id() });
        for (name, url) in urls {
            let Some(url) = url else { continue };
            writeln!(out, "{} listening on {url}", name.replace('_', " "))?;
            if let Some(members) = run.as_object_mut() {
                members.insert(name.to_owned(), url.into());
            }
        }
        out.flush()?;
        let mut file = tempfile::NamedTempFile::new_in(data)?;
        writeln!(file, "{run}")?;
        file.persist(super::run_file(data))?;
        Ok(())
    }

    /// Takes `run.json` away after a clean stop; a stale one is told by its `pid`.
    pub(super) fn withdraw(data: &Path) {
        if let Err(error) = std::fs::remove_file(super::run_file(data)) {
            tracing::debug!(%error, "run.json could not be removed");
        }
    }
}

fn url(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}
