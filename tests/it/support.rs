//! What the tests stand on: countersign as a process, agents as unmodified SDKs and drivers, moto as
//! AWS, a real PostgreSQL, and a scripted upstream that misbehaves on demand. Nothing here knows countersign's inside.

// Each test module and the benches use a part of this.
#![expect(dead_code, reason = "shared by the test binary and the benches, each of which uses a part")]

pub(crate) mod agent;
pub(crate) mod browser;
pub(crate) mod cloud;
pub(crate) mod driver;
pub(crate) mod frontend;
pub(crate) mod impostor;
pub(crate) mod peer;
pub(crate) mod postgres;
pub(crate) mod provider;
pub(crate) mod sign;
pub(crate) mod site;
pub(crate) mod slack;
pub(crate) mod talker;
pub(crate) mod upstream;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter that has botocore and moto.
pub(crate) fn python() -> PathBuf {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    python
}

/// Looks again and again until there is something to see; no test depends on how long it takes.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// The most resident memory that a process ever had, in bytes.
pub(crate) fn peak_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Longer than anything takes on a busy machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// IAM's answer to CreateAccessKey.
pub(crate) const CREATED: &str = "<CreateAccessKeyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
<CreateAccessKeyResult><AccessKey><UserName>u</UserName><AccessKeyId>AKIAISSUEDISSUED0000</AccessKeyId>\
<Status>Active</Status><SecretAccessKey>issued-by-the-scripted-upstream-0000000</SecretAccessKey></AccessKey>\
</CreateAccessKeyResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></CreateAccessKeyResponse>";
