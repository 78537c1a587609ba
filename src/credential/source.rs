//! A secret that somebody else keeps for us: where it is, and reading it anew for each use.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::secret::Secret;

/// Where the secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// A program and its arguments; the secret is what it prints.
    Command(Vec<String>),
    /// The name of an environment variable.
    Environment(String),
    File(PathBuf),
    /// There is none, and it is a mistake to ask for it.
    None,
}

/// Why there is no secret. None of these holds any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("it is wanted, and none is configured")]
    Missing,
    #[error("cannot read it from `{file}`")]
    File { file: PathBuf, source: std::io::Error },
    #[error("the environment variable `{0}`, which should hold it, is not set or no text")]
    Environment(String),
    #[error("cannot run `{program}`, which should print it")]
    Run { program: String, source: std::io::Error },
    #[error("`{program}`, which should print it, {why}")]
    Failed { program: String, why: String },
    #[error("it is empty")]
    Empty,
}

impl SecretSource {
    /// Reads it. One line end after it is no part of it.
    ///
    /// # Errors
    /// When it cannot be had, or is empty.
    pub(crate) async fn read(&self) -> Result<Secret, SourceError> {
        let text = match self {
            Self::None => return Err(SourceError::Missing),
            Self::File(file) => {
                let failed = |source| SourceError::File { file: file.clone(), source };
                Secret::new(tokio::fs::read_to_string(file).await.map_err(failed)?)
            }
            Self::Environment(name) => {
                Secret::new(std::env::var(name).map_err(|_| SourceError::Environment(name.clone()))?)
            }
            Self::Command(words) => run(words).await?,
        };
        let line = text.expose();
        let line = line.strip_suffix('\n').unwrap_or(line);
        match line.strip_suffix('\r').unwrap_or(line) {
            "" => Err(SourceError::Empty),
            secret => Ok(Secret::new(secret)),
        }
    }
}

async fn run(words: &[String]) -> Result<Secret, SourceError> {
    let (program, arguments) = words.split_first().ok_or(SourceError::Missing)?;
    let failed = |why: String| SourceError::Failed { program: program.clone(), why };
    // What it says on stderr goes to our own, where an operator looks.
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await;
    let output = output.map_err(|_| failed(format!("took longer than {COMMAND_LIMIT:?}")))?;
    let output = output.map_err(|source| SourceError::Run { program: program.clone(), source })?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("printed what is no text".to_owned()))?;
    Ok(Secret::new(text))
}

/// Somebody waits for it.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
