//! What each client is sent while it waits, so that it neither gives up nor takes a sign of life
//! for the answer.
//!
//! There is no keepalive that all clients take: repeated `100 Continue` keeps every Python client
//! waiting and kills undici at once; `102` keeps undici waiting, and Python takes it for the final
//! answer: boto3 then reports a deletion as done. So a client is known by its User-Agent or gets
//! silence, and nothing but 100 is ever sent to one that may run on Python. A client that lies
//! about its name hurts only itself.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::id::AgentId;
use crate::net::line::Interim;

/// How interim answers are given; the timings are for tests and unusual clients.
#[derive(Clone, Debug)]
pub(crate) struct InterimOptions {
    /// False: silence for every client.
    pub(crate) enabled: bool,
    /// Overrides the table's time until the first interim answer.
    pub(crate) first: Option<Duration>,
    /// Overrides the table's time between interim answers.
    pub(crate) every: Option<Duration>,
    /// What these agents get, whatever their clients say.
    pub(crate) agents: HashMap<AgentId, Sign>,
}

impl Default for InterimOptions {
    fn default() -> Self {
        Self { enabled: true, first: None, every: None, agents: HashMap::new() }
    }
}

/// What is sent to a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `100 Continue`, again and again.
    Continue,
    /// `102 Processing`, again and again.
    Processing,
    /// Nothing but TCP keepalive.
    Silence,
}

/// The interim answers of one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) interim: Interim,
    pub(super) first: Duration,
    pub(super) every: Duration,
    /// Interim answers after which there is silence.
    pub(super) most: u32,
}

impl InterimOptions {
    /// What this client is sent during a hold of at most `expires`; `None` is silence.
    pub(super) fn patience(&self, agent: &AgentId, user_agent: Option<&str>, expires: Duration) -> Option<Patience> {
        if !self.enabled {
            return None;
        }
        let client = user_agent.unwrap_or_default();
        let known = CLIENTS.iter().find(|row| match row.name.strip_suffix('$') {
            Some(whole) => client == whole,
            None => client.starts_with(row.name),
        });
        let sign = self.agents.get(agent).copied().or(known.map(|row| row.sign))?;
        let (first, every, most) = known.map_or((20, 25, BUDGET), |row| (row.first, row.every, row.most));
        let every = match self.every {
            Some(every) => every,
            // A hold longer than the budget lasts is spread over it, as far as the read timeout of 60 s lets.
            None => Duration::from_secs(every).max((expires / most).min(LONGEST_INTERVAL)),
        };
        let interim = match sign {
            Sign::Continue => Interim::Continue,
            Sign::Processing => Interim::Processing,
            Sign::Silence => return None,
        };
        Some(Patience { interim, first: self.first.unwrap_or(Duration::from_secs(first)), every, most })
    }
}

/// Awaits `admission` while the client is told to wait by `tell`, which says whether it could.
/// Cancel safe as `admission` is.
pub(super) async fn kept_waiting<F: Future>(
    admission: F,
    patience: Patience,
    mut tell: impl FnMut(Interim) -> bool,
) -> F::Output {
    tokio::pin!(admission);
    let mut left = patience.most;
    let mut next = Instant::now() + patience.first;
    loop {
        tokio::select! {
            biased;
            admitted = &mut admission => return admitted,
            () = sleep_until(next), if left > 0 => {
                left = if tell(patience.interim) { left - 1 } else { 0 };
                next += patience.every;
            }
        }
    }
}

/// A client as it names itself: the start of its User-Agent, or all of it before a `$`.
struct Client {
    name: &'static str,
    sign: Sign,
    /// Seconds.
    first: u64,
    every: u64,
    most: u32,
}

/// CPython refuses an answer after 100 interim ones.
const BUDGET: u32 = 90;
const LONGEST_INTERVAL: Duration = Duration::from_secs(45);

const fn python(name: &'static str) -> Client {
    Client { name, sign: Sign::Continue, first: 20, every: 25, most: BUDGET }
}

const fn slow(name: &'static str, sign: Sign) -> Client {
    Client { name, sign, first: 60, every: 60, most: 10 * BUDGET }
}

/// Measured, client by client; whoever is not here gets silence.
const CLIENTS: [Client; 10] = [
    python("Boto3/"),
    python("Botocore/"),
    python("aws-cli/"),
    // Five seconds is all the patience it has.
    Client { name: "python-httpx/", sign: Sign::Continue, first: 3, every: 3, most: 20 * BUDGET },
    python("python-requests/"),
    python("python-urllib3/"),
    slow("aws-sdk-js/", Sign::Continue),
    slow("curl/", Sign::Continue),
    slow("gcloud-node-storage/", Sign::Continue),
    slow("node$", Sign::Processing),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(options: &InterimOptions, user_agent: &str, minutes: u64) -> Option<(u16, u64, u64, u32)> {
        let agent = AgentId::new("bot");
        let patience = options.patience(&agent, Some(user_agent), Duration::from_secs(60 * minutes))?;
        let status = if patience.interim == Interim::Continue { 100 } else { 102 };
        Some((status, patience.first.as_secs(), patience.every.as_secs(), patience.most))
    }

    #[test]
    fn clients_get_what_they_were_measured_to_bear() {
        let options = InterimOptions::default();
        for (user_agent, expected) in [
            ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1", Some((100, 20, 25, 90))),
            ("aws-cli/1.45.11 md/Botocore#1.43.11", Some((100, 20, 25, 90))),
            ("python-httpx/0.28.1", Some((100, 3, 3, 1800))),
            ("aws-sdk-js/3.1169.0 ua/2.1 os/linux", Some((100, 60, 60, 900))),
            ("node", Some((102, 60, 60, 900))),
            ("node-fetch/1.0", None),
            ("aws-sdk-rust/1.3.10 os/linux", None),
            ("aws-sdk-go-v2/1.30.0 os/linux", None),
            ("APN/1.0 HashiCorp/1.0 Terraform/1.9.0", None),
            ("x Boto3/1.44.5", None),
            ("", None),
        ] {
            assert_eq!(patience(&options, user_agent, 10), expected, "{user_agent}");
        }
    }

    /// How often a client is told before `admission` ends, when the `broken`th telling fails.
    async fn told(admission: impl Future, most: u32, broken: u32) -> u32 {
        let moment = Duration::from_micros(10);
        let patience = Patience { interim: Interim::Continue, first: moment, every: moment, most };
        let mut told = 0;
        let tell = |interim| {
            assert_eq!(interim, Interim::Continue);
            told += 1;
            told != broken
        };
        kept_waiting(admission, patience, tell).await;
        told
    }

    #[tokio::test]
    async fn a_client_is_told_until_the_answer_the_budget_or_its_leaving() {
        let soon = || tokio::time::sleep(Duration::from_millis(30));
        assert_eq!(told(std::future::ready(()), 9, 0).await, 0);
        assert_eq!(told(soon(), 3, 0).await, 3);
        assert_eq!(told(soon(), 9, 2).await, 2);
    }

    #[test]
    fn nothing_that_may_be_python_is_sent_another_interim_answer_than_100() {
        for client in &CLIENTS {
            assert!(client.sign != Sign::Processing || client.name == "node$", "{}", client.name);
        }
    }

    #[test]
    fn a_long_hold_stretches_the_interval_within_the_read_timeout() {
        let options = InterimOptions::default();
        assert_eq!(patience(&options, "Boto3/1", 60), Some((100, 20, 40, 90)));
        assert_eq!(patience(&options, "Boto3/1", 600), Some((100, 20, 45, 90)));
    }

    #[test]
    fn switches_override_the_table() {
        let second = Some(Duration::from_secs(1));
        let quick = InterimOptions { first: second, every: second, ..InterimOptions::default() };
        assert_eq!(patience(&quick, "Boto3/1", 60), Some((100, 1, 1, 90)));
        let off = InterimOptions { enabled: false, ..InterimOptions::default() };
        assert_eq!(patience(&off, "Boto3/1", 10), None);
        let agents =
            |sign| InterimOptions { agents: [(AgentId::new("bot"), sign)].into(), ..InterimOptions::default() };
        assert_eq!(patience(&agents(Sign::Silence), "Boto3/1", 10), None);
        assert_eq!(patience(&agents(Sign::Continue), "unknown", 10), Some((100, 20, 25, 90)));
    }
}
