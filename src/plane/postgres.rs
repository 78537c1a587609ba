//! The Postgres plane: a server to the agent, a client to the database.
//!
//! `login` lets an agent in by its virtual credential; `upstream` opens the session that it works
//! on, with the real one.

#![expect(dead_code, reason = "the session that joins both is being built")]

pub(crate) mod login;
pub(crate) mod upstream;
