//! `countersign approve`, `deny`, `modify` and `cancel`.

use std::io::Write;

use clap::Args;

use super::{Common, Exit};

#[derive(Args, Debug)]
pub(crate) struct Approve {}
#[derive(Args, Debug)]
pub(crate) struct Cancel {}
#[derive(Args, Debug)]
pub(crate) struct Deny {}
#[derive(Args, Debug)]
pub(crate) struct Modify {}

pub(crate) fn approve(_arguments: Approve, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
pub(crate) fn cancel(_arguments: Cancel, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
pub(crate) fn deny(_arguments: Deny, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
pub(crate) fn modify(_arguments: Modify, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
