use super::*;

/// The turns that are free for that agent now.
async fn take(turns: &Turns, agent: &str) -> Vec<Turn> {
    let mut taken = Vec::new();
    while let Some(turn) = turns.next(&AgentId::new(agent)).await {
        taken.push(turn);
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn an_agent_leaves_turns_to_the_others() {
    let turns = Turns::default();
    let greedy = take(&turns, "greedy").await;
    assert_eq!(greedy.len(), MOST_OF_ONE_AGENT);
    assert!(turns.next(&AgentId::new("other")).await.is_some());
    drop(greedy);
    assert_eq!(take(&turns, "greedy").await.len(), MOST_OF_ONE_AGENT);
}

#[tokio::test(start_paused = true)]
async fn all_agents_have_so_many_and_the_first_to_come_is_next() {
    let turns = Arc::new(Turns::default());
    let mut taken = Vec::new();
    for agent in 0..MOST_AT_ONCE / MOST_OF_ONE_AGENT {
        taken.extend(take(&turns, &agent.to_string()).await);
    }
    assert_eq!(taken.len(), MOST_AT_ONCE);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    // One agent with more than its share, then another one.
    let wait = |agent: &'static str| {
        let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
        tokio::spawn(async move {
            let turn = turns.next(&AgentId::new(agent)).await;
            order.lock().unwrap().push(agent);
            drop(turn);
        })
    };
    let waiting: Vec<_> = std::iter::repeat_n("greedy", MOST_OF_ONE_AGENT * 10).chain(["late"]).map(wait).collect();
    tokio::task::yield_now().await;
    taken.pop();
    for task in waiting {
        task.await.unwrap();
    }
    let place = order.lock().unwrap().iter().position(|agent| *agent == "late").unwrap();
    assert!(place <= MOST_OF_ONE_AGENT, "{place}");
}

#[tokio::test(start_paused = true)]
async fn agents_without_a_call_are_forgotten() {
    let turns = Turns::default();
    let kept = turns.next(&AgentId::new("kept")).await;
    for agent in 0..KNOWN_AGENTS * 2 {
        drop(turns.next(&AgentId::new(agent.to_string())).await);
    }
    assert!(turns.of_agents.len() <= KNOWN_AGENTS + 1 && turns.of_agents.contains_key(&AgentId::new("kept")));
    drop(kept);
}
