//! The real role's password: where it is kept, and reading it anew for each session.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::secret::Secret;

/// Where the password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// A program and its arguments; the password is what it prints.
    Command(Vec<String>),
    /// The name of an environment variable.
    Environment(String),
    File(PathBuf),
    /// The role proves itself by a certificate, or need not.
    None,
}

/// Why there is no password. None of these holds any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("the upstream wants a password, and none is configured: set `upstream.postgres.password_file`")]
    Missing,
    #[error("cannot read the upstream's password from `{file}`")]
    File { file: PathBuf, source: std::io::Error },
    #[error("the environment variable `{0}`, which should hold the upstream's password, is not set or no text")]
    Environment(String),
    #[error("cannot run `{program}` for the upstream's password")]
    Run { program: String, source: std::io::Error },
    #[error("`{program}`, which should print the upstream's password, {why}")]
    Failed { program: String, why: String },
    #[error("the upstream's password is empty")]
    Empty,
}

impl PasswordSource {
    /// Reads it. One line end after it is no part of it.
    ///
    /// # Errors
    /// When it cannot be had, or is empty.
    pub(crate) async fn read(&self) -> Result<Secret, PasswordError> {
        let text = match self {
            Self::None => return Err(PasswordError::Missing),
            Self::File(file) => {
                let failed = |source| PasswordError::File { file: file.clone(), source };
                Secret::new(tokio::fs::read_to_string(file).await.map_err(failed)?)
            }
            Self::Environment(name) => {
                Secret::new(std::env::var(name).map_err(|_| PasswordError::Environment(name.clone()))?)
            }
            Self::Command(words) => run(words).await?,
        };
        let line = text.expose();
        let line = line.strip_suffix('\n').unwrap_or(line);
        match line.strip_suffix('\r').unwrap_or(line) {
            "" => Err(PasswordError::Empty),
            password => Ok(Secret::new(password)),
        }
    }
}

async fn run(words: &[String]) -> Result<Secret, PasswordError> {
    let (program, arguments) = words.split_first().ok_or(PasswordError::Missing)?;
    let failed = |why: String| PasswordError::Failed { program: program.clone(), why };
    // What it says on stderr goes to our own, where an operator looks.
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await;
    let output = output.map_err(|_| failed(format!("took longer than {COMMAND_LIMIT:?}")))?;
    let output = output.map_err(|source| PasswordError::Run { program: program.clone(), source })?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("printed what is no text".to_owned()))?;
    Ok(Secret::new(text))
}

/// A session waits for it.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
