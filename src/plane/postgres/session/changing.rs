//! A bound statement that an approver changed, or that carries the id of its hold to the server's log. The
//! client's own stays as it is: the new text is prepared under a name of countersign's, shown by the server to
//! give what the client was told, bound to the client's portal with the client's values, and closed.
//!
//! Nothing of the client's is sent between the first of these messages and the last.

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::asking::Named;
use super::super::ending;
use super::super::machine::{CHANGED, Own, Prepared};
use super::super::narrowing::Bound;
use super::super::notice::Notice;
use super::running::Running;
use super::{Session, SessionError};
use crate::gate::{Ended, Finished, Outcome, Permit, Receipt};
use crate::hold::Ending;
use crate::id::HoldId;
use crate::wire::postgres::backend::{Frame, kind};
use crate::wire::postgres::frontend::{self, Bind, Message, Target};

/// A Bind at the front whose statement is to be another.
pub(super) struct Changing {
    hold: Option<HoldId>,
    /// An approver's text takes its place, and not the same with a comment.
    is_modified: bool,
    stage: Stage,
    /// Its client has sent a CancelRequest.
    pub(super) is_cancelled: bool,
}

impl Changing {
    /// Whether nothing of it was sent yet.
    pub(super) fn waits_for_others(&self) -> bool {
        matches!(self.stage, Stage::Permitted(..))
    }
}

enum Stage {
    /// What was sent before is not answered yet.
    Permitted(Permit, Named),
    /// The server is asked what the client's statement takes and gives.
    Original(Receipt, Named, Shape),
    /// It is asked the same of the approver's.
    Changed(Receipt, Named, Shape, Shape),
}

/// What a statement takes and gives, as the server describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    types: Vec<u32>,
    /// Names and types; none where it gives no rows.
    columns: Option<Vec<(Bytes, u32)>>,
    is_whole: bool,
}

impl Shape {
    /// # Errors
    /// What keeps `self` from taking the place of `before`. `is_told`: the client counts on its columns.
    fn fits(&self, before: &Self, is_told: bool) -> Result<(), &'static str> {
        if self.types != before.types {
            return Err("it takes other parameters");
        }
        match (&self.columns, &before.columns) {
            (None, None) => Ok(()),
            (Some(_), Some(_)) if !is_told => Ok(()),
            (Some(after), Some(before)) if after == before => Ok(()),
            (Some(_), Some(_)) => Err("it gives other columns than the client was told"),
            (None, Some(_)) => Err("it gives no rows"),
            (Some(_), None) => Err("it gives rows"),
        }
    }
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn begin_change(&mut self, permit: Permit, named: Named) {
        let hold = permit.hold().cloned();
        let is_modified = permit.modified().is_some();
        let stage = Stage::Permitted(permit, named);
        self.changing = Some(Changing { hold, is_modified, stage, is_cancelled: false });
    }

    /// Takes the next step, when the server has answered the one before.
    pub(super) fn change(&mut self) -> Result<bool, SessionError> {
        // A notice must not come in the middle of a message of the server's.
        let is_due = match self.changing.as_ref().map(|changing| &changing.stage) {
            None => false,
            Some(_) if !self.tally.is_between_messages() => false,
            Some(Stage::Permitted(..)) => self.machine.is_idle() || self.machine.is_skipping(),
            Some(Stage::Original(_, _, shape) | Stage::Changed(_, _, _, shape)) => shape.is_whole,
        };
        let Some(changing) = self.changing.take_if(|_| is_due) else { return Ok(false) };
        let Changing { hold, is_modified, stage, is_cancelled } = changing;
        let stage = match stage {
            Stage::Permitted(permit, named) if self.machine.is_skipping() || is_cancelled => {
                self.give_back(permit, hold.as_ref());
                drop(named);
                if is_cancelled && !self.machine.is_skipping() {
                    self.stop(ending::cancelled(hold.as_ref()))?;
                }
                return Ok(true);
            }
            Stage::Permitted(permit, named) => match self.describe_original(permit, &named)? {
                Some(stage) => stage,
                None => return Ok(true),
            },
            Stage::Original(receipt, named, before) => {
                if self.machine.has_changed() {
                    // Left behind by an error; to close what is not there is no error either.
                    self.close_changed();
                }
                let comment = self.asker.comment(&named, hold.as_ref(), &self.settings).unwrap_or_default();
                let text = [named.sql(), comment.as_bytes()].concat();
                frontend::parse(&mut self.to_upstream, CHANGED, &text, &before.types);
                frontend::describe(&mut self.to_upstream, Target::Statement(CHANGED));
                frontend::flush(&mut self.to_upstream);
                self.machine.ask_own(Own::Parse);
                self.machine.ask_own(Own::Describe);
                Stage::Changed(receipt, named, before, Shape::default())
            }
            Stage::Changed(receipt, named, before, after) => {
                let hold = hold.as_ref();
                self.bind_changed(receipt, named, (&before, &after), (hold, is_modified), is_cancelled)?;
                return Ok(true);
            }
        };
        self.changing = Some(Changing { hold, is_modified, stage, is_cancelled });
        Ok(true)
    }

    /// Nothing of it was sent, and nobody wants it any more.
    fn give_back(&mut self, permit: Permit, hold: Option<&HoldId>) {
        drop(permit);
        if let Some(hold) = hold {
            self.asker.withdraw(hold);
        }
    }

    fn describe_original(&mut self, permit: Permit, named: &Named) -> Result<Option<Stage>, SessionError> {
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(None) };
        let message = frame.read()?;
        let changed = match &message {
            Message::Bind(bind) => self.machine.bound(bind.statement).and_then(|prepared| {
                let changed = match permit.modified() {
                    Some(parameters) => {
                        let bound = Bound::of(&message, &prepared);
                        self.asker.changed(named, parameters, &bound, &self.settings).ok()?
                    }
                    None => named.clone(),
                };
                Some((changed, bind.statement.to_vec()))
            }),
            _ => None,
        };
        let Some((changed, statement)) = changed else {
            self.stop(ending::drifted())?;
            return Ok(None);
        };
        let Ok(receipt) = permit.spend(self.asker.digest_of(&changed)) else {
            self.stop(ending::drifted())?;
            return Ok(None);
        };
        frontend::describe(&mut self.to_upstream, Target::Statement(&statement));
        frontend::flush(&mut self.to_upstream);
        self.machine.ask_own(Own::Describe);
        self.has_flushed = true;
        Ok(Some(Stage::Original(receipt, changed, Shape::default())))
    }

    fn bind_changed(
        &mut self,
        receipt: Receipt,
        named: Named,
        (before, after): (&Shape, &Shape),
        (hold, is_modified): (Option<&HoldId>, bool),
        is_cancelled: bool,
    ) -> Result<(), SessionError> {
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let (message, length) = (frame.read()?, frame.raw.len());
        let Message::Bind(bind) = &message else { return Ok(()) };
        let is_told = counts_on_columns(bind, self.machine.bound(bind.statement).as_deref());
        let refusal = match after.fits(before, is_told) {
            _ if is_cancelled => Some((ending::cancelled(hold), cancelled())),
            Err(why) => Some((unfit(hold, why), Outcome::Unfit { reason: why.to_owned() })),
            Ok(()) => None,
        };
        if let Some((ended, outcome)) = refusal {
            self.close_changed();
            self.complete_with(receipt, outcome);
            return self.stop(ended);
        }
        if let Some(hold) = hold.filter(|_| is_modified) {
            Notice::changed(hold.as_str(), &named.text()).write(&mut self.to_client);
        }
        let run = self.machine.allow(&message, named.is_barrier());
        let mut running = Running::new(run, receipt, true, named);
        running.metering = self.meter(&running.named, true);
        self.running.push_back(running);
        frontend::bind_to(&mut self.to_upstream, bind, CHANGED);
        self.close_changed();
        self.has_flushed = false;
        self.from_client.advance(length);
        Ok(())
    }

    /// Before anything of the client's could name it.
    pub(super) fn close_changed(&mut self) {
        frontend::close(&mut self.to_upstream, Target::Statement(CHANGED));
        self.machine.ask_own(Own::Close);
    }

    /// What the server answers to a message of countersign's own.
    pub(super) fn told(&mut self, frame: &Frame<'_>) -> Result<(), SessionError> {
        let Some(Changing { stage: Stage::Original(_, _, shape) | Stage::Changed(_, _, _, shape), .. }) =
            &mut self.changing
        else {
            return Ok(());
        };
        match frame.kind {
            kind::PARAMETER_DESCRIPTION => shape.types = frame.types()?,
            kind::ROW_DESCRIPTION => {
                let columns = frame.columns()?;
                shape.columns = Some(columns.iter().map(|it| (Bytes::copy_from_slice(it.name), it.type_oid)).collect());
                shape.is_whole = true;
            }
            kind::NO_DATA => shape.is_whole = true,
            _ => {}
        }
        Ok(())
    }

    /// The server does not take what an approver wrote: its client hears why, as if the server had refused
    /// the client's own message, which is skipped with all up to Sync.
    pub(super) fn refused(&mut self, raw: &[u8]) {
        match self.changing.take() {
            Some(Changing {
                hold,
                is_modified,
                stage: Stage::Original(receipt, named, _) | Stage::Changed(receipt, named, ..),
                ..
            }) => {
                if let Some(hold) = hold.filter(|_| is_modified) {
                    Notice::changed(hold.as_str(), &named.text()).write(&mut self.to_client);
                }
                let frame = Frame { kind: kind::ERROR_RESPONSE, raw };
                let sqlstate = frame.said().ok().and_then(|said| said.sqlstate());
                self.complete_with(receipt, Outcome::Finished(Finished { sqlstate, ..Finished::default() }));
                self.last_word = Bytes::copy_from_slice(raw);
            }
            other => {
                self.changing = other;
                self.to_client.extend_from_slice(raw);
            }
        }
    }

    /// The session ends in the middle of it: nothing of the statement ran.
    pub(super) async fn abandon_change(&mut self) {
        match self.changing.take() {
            None => {}
            Some(Changing { hold, stage: Stage::Permitted(permit, _), .. }) => self.give_back(permit, hold.as_ref()),
            Some(Changing { stage: Stage::Original(receipt, ..) | Stage::Changed(receipt, ..), .. }) => {
                let reason = "the session ended before what was approved could run".to_owned();
                if self.asker.complete(receipt, Outcome::NotSent { reason }).await.is_err() {
                    tracing::error!("an outcome could not be recorded");
                }
            }
        }
    }
}

/// Whether a client knows, or may have kept from an earlier time, what columns its statement gives.
fn counts_on_columns(bind: &Bind<'_>, prepared: Option<&Prepared>) -> bool {
    !bind.statement.is_empty() || bind.result_formats.len() > 1 || prepared.is_none_or(Prepared::is_told)
}

fn unfit(hold: Option<&HoldId>, why: &str) -> Ended {
    let message = format!("an approver changed this statement, and the change cannot run in its place: {why}.");
    Ended { ending: Ending::Unfit, hold: hold.cloned(), message }
}

/// As when the server is cancelled while it runs.
fn cancelled() -> Outcome {
    Outcome::Finished(Finished { sqlstate: Some("57014".to_owned()), ..Finished::default() })
}
