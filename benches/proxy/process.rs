//! A process under measurement, as `/proc` sees it.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

/// A child that ends with its owner.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// User and system time a process has used.
///
/// `/proc/PID/stat` counts whole ticks of 10 ms. Where no thread has ended yet, the running ones'
/// `schedstat` adds up to the same in nanoseconds; where one has, that sum is the smaller.
pub(crate) fn cpu_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The second field is the name in parentheses and may hold anything.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_millis(ticks * 10).max(Duration::from_nanos(nanoseconds.sum()))
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    status_bytes(id, "VmRSS:")
}

/// The most resident memory in bytes since [`forget_peak`].
pub(crate) fn peak_bytes(id: u32) -> u64 {
    status_bytes(id, "VmHWM:")
}

/// Lets the peak begin at what is resident now.
pub(crate) fn forget_peak(id: u32) {
    // Where that is not allowed the peak is that of the process's life.
    drop(fs::write(format!("/proc/{id}/clear_refs"), "5"));
}

fn status_bytes(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Lets this process, and what it starts from now on, open as many files as it is allowed to.
pub(crate) fn raise_file_limit() {
    let id = std::process::id().to_string();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let hard = line.split_whitespace().nth(4).unwrap();
    // The bare proxy takes two for each of ten thousand waiting requests: more than some machines let
    // anyone have who is not root.
    for limit in ["65536:65536", &format!("{hard}:{hard}")] {
        let asked = Command::new("prlimit").args(["--pid", &id, &format!("--nofile={limit}")]).output();
        if asked.is_ok_and(|it| it.status.success()) {
            return;
        }
    }
}

/// A command that runs on one core, so that proxy and load do not take each other's time; on a
/// machine without `taskset` or with one core it runs anywhere.
pub(crate) fn on_core(core: usize, program: &str) -> Command {
    // Tried, not counted: the cores this process may use itself are those it was moved to.
    let can_pin = Command::new("taskset").args(["-c", &core.to_string(), "true"]).status().is_ok_and(|it| it.success());
    if !can_pin {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), program]);
    command
}

/// The words before a command that keep it on one core; none where that is not possible.
pub(crate) fn pinned(core: usize) -> Vec<String> {
    let command = on_core(core, "");
    let words: Vec<String> = command
        .get_args()
        .filter_map(|word| word.to_str())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if words.is_empty() { words } else { [vec!["taskset".to_owned()], words].concat() }
}

/// Moves this process, and what it starts from now on, to one core.
pub(crate) fn pin_self(core: usize) {
    let id = std::process::id().to_string();
    // Without it the figures are noisier, no more.
    drop(Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &id]).output());
}
