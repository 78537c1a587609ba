//! Virtual credentials of agents, tokens of approvers, and the real credential of the upstream.
