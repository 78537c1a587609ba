//! Drivers of PostgreSQL, unmodified, each in its own process with nothing in its environment but
//! what any client of a database is given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::agent::Call;
use super::postgres::{Database, Role, program};
use super::site::Site;
use super::{python, root};

/// Where a driver connects, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) extra: Vec<(String, String)>,
}

/// One of the drivers that come with a script of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Asyncpg,
    NodePostgres,
    Psycopg,
    Psycopg2,
}

pub(crate) const DRIVERS: [Driver; 4] = [Driver::Asyncpg, Driver::NodePostgres, Driver::Psycopg, Driver::Psycopg2];

impl Driver {
    /// The interpreter and the script.
    fn command(self) -> (PathBuf, PathBuf) {
        let scripts = root().join("tests/it/postgres/drivers");
        match self {
            Self::Asyncpg => (python(), scripts.join("with_asyncpg.py")),
            Self::NodePostgres => {
                let folder = root().join("tests/js");
                assert!(folder.join("node_modules/pg").exists(), "node-postgres is missing: run `make test`");
                (PathBuf::from("node"), folder.join("postgres.mjs"))
            }
            Self::Psycopg => (python(), scripts.join("with_psycopg.py")),
            Self::Psycopg2 => (python(), scripts.join("with_psycopg2.py")),
        }
    }
}

impl Door {
    /// Straight to the server.
    pub(crate) fn direct(database: &Database, role: Role) -> Self {
        Self {
            port: database.cluster().port,
            user: role.name.to_owned(),
            password: role.password.unwrap_or_default().to_owned(),
            database: database.name.clone(),
            extra: Vec::new(),
        }
    }

    /// To countersign, with the virtual credential of a new agent.
    #[track_caller]
    pub(crate) fn through(site: &Site, agent: &str, database: &Database) -> Self {
        let keys = site.agent(agent, "olga").keys;
        Self {
            port: site.postgres.port(),
            user: keys.id,
            password: keys.secret,
            database: database.name.clone(),
            extra: Vec::new(),
        }
    }

    /// Sets one more environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a scenario of the driver's script; the answer is what it prints.
    pub(crate) fn start(&self, driver: Driver, scenario: &str, argument: &str) -> Call {
        let (interpreter, script) = driver.command();
        let mut command = self.command(&interpreter);
        command.arg(script).args([scenario, argument]).stderr(Stdio::piped());
        Call::new(command.spawn().unwrap())
    }

    /// psql, which reads no file of the user's.
    pub(crate) fn psql(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&program("psql"));
        command.args(["-X", "--set=VERBOSITY=verbose"]).args(arguments).stderr(Stdio::piped());
        command
    }

    /// Any client that reads libpq's variables.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", &self.database)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.extra.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}
