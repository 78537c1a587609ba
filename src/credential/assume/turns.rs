//! Turns at STS: so many of one agent, so many of all, first come first served.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::AgentId;

/// Calls of one agent that run at once.
pub(super) const MOST_OF_ONE_AGENT: usize = 4;
/// Calls of all agents that run at once.
pub(super) const MOST_AT_ONCE: usize = 32;
/// How long a request waits for its turn: much longer, and its client has given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents without a call that are forgotten only above this number.
const KNOWN_AGENTS: usize = 1024;

/// Who may ask STS when. An agent that has its own turns taken waits for those first, so that the line for
/// the others' holds a few of each agent, whatever one of them asks for.
#[derive(Debug)]
pub(super) struct Turns {
    of_all: Arc<Semaphore>,
    of_agents: DashMap<AgentId, Arc<Semaphore>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { of_all: Arc::new(Semaphore::new(MOST_AT_ONCE)), of_agents: DashMap::new() }
    }
}

/// A call's turn, until it is dropped.
pub(super) struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_agent: OwnedSemaphorePermit,
}

impl Turns {
    /// The next turn of that agent; `None` when it did not come in time.
    pub(super) async fn next(&self, agent: &AgentId) -> Option<Turn> {
        let of_agent = self.of_agent(agent);
        let turn = async {
            // In this order: whoever waits for its agent's turn must hold none of all agents'.
            let of_agent = of_agent.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.of_all).acquire_owned().await.ok()?;
            Some(Turn { _of_all: of_all, _of_agent: of_agent })
        };
        tokio::time::timeout(PATIENCE, turn).await.ok().flatten()
    }

    fn of_agent(&self, agent: &AgentId) -> Arc<Semaphore> {
        if self.of_agents.len() > KNOWN_AGENTS {
            // Each turn, and each that waits for one, has a reference of its own.
            self.of_agents.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = self.of_agents.entry(agent.clone()).or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_ONE_AGENT)));
        Arc::clone(&turns)
    }
}

#[cfg(test)]
mod tests;
