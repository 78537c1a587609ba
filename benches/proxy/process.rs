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

/// User and system time a process has used, by `/proc/PID/stat`.
pub(crate) fn cpu_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The second field is the name in parentheses and may hold anything.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
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

/// Moves this process, and what it starts from now on, to one core.
pub(crate) fn pin_self(core: usize) {
    let id = std::process::id().to_string();
    // Without it the figures are noisier, no more.
    drop(Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &id]).output());
}
