//! The configuration: a YAML file into each module's own options.
//!
//! It sits on top of the modules it configures, so that none of them knows it. Every mistake is
//! reported at once with its place; a file with a mistake is refused whole. Paths are relative to
//! the file that names them. Nothing here opens a socket or a key.
//!
//! `docs/config.md` says what each key means; [`Config::show`] prints all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::credential::real::RealOptions;
use crate::gate::GateOptions;
use crate::net::spool::DiskLimits;
use crate::net::upstream::UpstreamOptions;
use crate::people::People;
use crate::yaml::{Diagnostic, Problems, Source};

pub(crate) mod channels;
mod doors;
pub(crate) mod facts;
mod oidc;
mod page;
mod people;
mod postgres;
mod schema;
mod secret;

pub(crate) use oidc::Oidc;
use page::Page;

/// Everything an operator can say, with defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: Listen,
    pub(crate) aws: Aws,
    /// Of meaning while somebody listens as a proxy or as AWS itself.
    pub(crate) interception: crate::net::leaf::Options,
    pub(crate) proxy: crate::plane::proxy::Options,
    pub(crate) postgres: Postgres,
    pub(crate) people: Arc<People>,
    pub(crate) channels: channels::Channels,
    /// `None`: people have approver tokens alone.
    pub(crate) oidc: Option<Oidc>,
    pub(crate) rules: Rules,
    pub(crate) gate: GateOptions,
    pub(crate) spool: Spool,
    pub(crate) journal: crate::journal::Options,
    pub(crate) log: Log,
    /// How long requests may go on after the order to stop.
    pub(crate) drain: Duration,
    /// What can be used but is hardly meant.
    pub(crate) warnings: Vec<Diagnostic>,
    shown: String,
}

/// Addresses to listen on; port 0 lets the system choose.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    /// Agents without TLS.
    pub(crate) agents: Option<SocketAddr>,
    /// Agents with TLS.
    pub(crate) agents_tls: Option<SocketAddr>,
    /// Agents of this machine, over a unix socket.
    pub(crate) agents_socket: Option<PathBuf>,
    /// Agents that use a proxy.
    pub(crate) proxy: Option<SocketAddr>,
    /// Agents that believe to speak to AWS itself.
    pub(crate) transparent: Option<SocketAddr>,
    /// Agents of Postgres.
    pub(crate) postgres: Option<SocketAddr>,
    /// Approvers.
    pub(crate) api: SocketAddr,
    pub(crate) api_tls: bool,
    /// Where people reach it with their browsers.
    pub(crate) api_url: Option<String>,
    /// Health, readiness and metrics.
    pub(crate) admin: SocketAddr,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Open connections of one listener.
    pub(crate) connections: usize,
    /// Those of one address; `None` for no limit of its own.
    pub(crate) connections_per_peer: Option<usize>,
}

impl Listen {
    /// Whether agents of AWS can come in anywhere.
    pub(crate) fn is_before_aws(&self) -> bool {
        self.agents_socket.is_some() || self.intercepts() || self.agents.or(self.agents_tls).is_some()
    }

    /// Whether anyone is spoken to in another's name.
    pub(crate) fn intercepts(&self) -> bool {
        self.proxy.or(self.transparent).is_some()
    }
}

/// The AWS plane and the real AWS behind it.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    pub(crate) plane: crate::plane::aws::Options,
    pub(crate) credential: RealOptions,
    pub(crate) pool: UpstreamOptions,
}

/// The Postgres plane and the real database behind it; of no meaning while nobody listens for it.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) door: crate::plane::postgres::login::Options,
    pub(crate) plane: crate::plane::postgres::Options,
    pub(crate) upstream: crate::plane::postgres::upstream::Options,
    pub(crate) words: crate::plane::postgres::wording::Options,
}

/// Where rules are, and what they do not say themselves.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Directories whose `*.yaml` are rules.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) options: crate::rules::Options,
}

impl Rules {
    /// The rule files, in the order of the directories and then of their names.
    ///
    /// # Errors
    /// When a directory or file cannot be read: leaving one out would loosen the rules.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let mut files = Vec::new();
        for directory in &self.directories {
            let failed = |source| ConfigError::Read { file: directory.clone(), source };
            let mut names = Vec::new();
            for entry in std::fs::read_dir(directory).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.extension().is_some_and(|extension| extension == "yaml") {
                    names.push(path);
                }
            }
            names.sort();
            files.append(&mut names);
        }
        Ok(files)
    }

    /// The rule files with their text.
    ///
    /// # Errors
    /// As [`Rules::files`].
    pub(crate) fn sources(&self) -> Result<Vec<Source>, ConfigError> {
        let read = |file: PathBuf| match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Source::new(file.to_string_lossy(), text)),
            Err(source) => Err(ConfigError::Read { file, source }),
        };
        self.files()?.into_iter().map(read).collect()
    }
}

/// What held bodies may take, in bytes; of memory all of them together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spool {
    pub(crate) memory: u64,
    pub(crate) disk: DiskLimits,
}

/// The process's own log, on stderr.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    pub(crate) json: bool,
    pub(crate) level: tracing::Level,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}", crate::yaml::render(.0))]
    Invalid(Vec<Diagnostic>),
    #[error("cannot read `{file}`; `countersign init` makes one")]
    Read { file: PathBuf, source: std::io::Error },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or anything in it is wrong.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.into(), source })?;
        let directory = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        Self::parse(&Source::new(file.to_string_lossy(), text), &directory).map_err(ConfigError::Invalid)
    }

    /// Reads a text whose relative paths are relative to `directory`.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub(crate) fn parse(source: &Source, directory: &Path) -> Result<Self, Vec<Diagnostic>> {
        let root = crate::yaml::parse(source).map_err(|mistake| vec![mistake])?;
        let problems = Problems::new(source.clone());
        let mut page = Page::new(&root, &problems, directory);
        let config = schema::read(&mut page);
        let shown = page.finish();
        let found = problems.into_vec();
        match config {
            Some(config) if found.iter().all(|d| d.severity() != crate::yaml::Severity::Error) => {
                Ok(Self { warnings: found, shown, ..config })
            }
            _ => Err(found),
        }
    }

    /// Every key with its value and where that came from: YAML that reads as the same configuration.
    pub(crate) fn show(&self) -> &str {
        &self.shown
    }
}

#[cfg(test)]
mod tests;
