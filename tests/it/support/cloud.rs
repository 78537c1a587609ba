//! moto's server as AWS: one for the whole test binary.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use super::{python, root};

/// A running moto server; it ends when its standard input closes, so it cannot outlive us.
pub(crate) struct Cloud {
    pub(crate) url: String,
    _process: Child,
    _stdin: ChildStdin,
}

/// The server that all tests share. They keep apart by naming what they create after themselves.
pub(crate) fn cloud() -> &'static Cloud {
    static CLOUD: OnceLock<Cloud> = OnceLock::new();
    CLOUD.get_or_init(Cloud::start)
}

impl Cloud {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(python())
            .arg(root().join("tests/it/support/cloud.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "moto's server did not start");
        Self { url: url.trim().to_owned(), _process: process, _stdin: stdin }
    }
}
