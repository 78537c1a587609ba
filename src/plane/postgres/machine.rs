//! What the two streams of a session mean together: which answer belongs to which message, what a
//! name stands for, and which message may not go on before somebody was asked.
//!
//! Pure: messages go in, what to do with them comes out. It follows the flow of the PostgreSQL docs,
//! section 55.2. INVARIANTS:
//!
//! - *step*: `sent` holds, in order, every message of the upstream's that an answer is due for;
//! - *nothing unasked*: a Query, Bind, Execute or FunctionCall is sent after [`Machine::allow`] only, but
//!   for an Execute of a portal whose Bind was allowed and which has not run to its end;
//! - *names as the server has them*: what a message did to a name is undone when the server skips it.
//!
//! Messages of countersign's own stand in `sent` like a client's; their answers are kept from the client.
//!
//! A denied message is replaced by an Execute of a portal that cannot exist. The server fails it in its
//! turn and does what it does after any error: it aborts the transaction and skips to Sync.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::classify::postgres as classify;
use crate::wire::postgres::backend::{Frame, Transaction, kind};
use crate::wire::postgres::frontend::{Message, Target};

pub(super) use names::Prepared;
pub(super) use steps::{Broken, Denial, Event, Step, Subject, Turn};

/// The portal that a denied message is replaced by an Execute of. A client cannot make it: see [`Machine::client`].
pub(super) const NO_PORTAL: &[u8] = b"countersign: denied";

/// The statement that an approver's text is prepared as. A client cannot name it, and it is closed before
/// anything of the client's runs.
pub(super) const CHANGED: &[u8] = b"countersign: changed";

/// The statement and portal of questions about the session.
pub(super) const ASKED: &[u8] = b"countersign: asked";

/// What all of these begin with.
const OURS: &[u8] = b"countersign: ";

/// Messages that a client may be ahead of the server's answers, and bytes of texts to prepare among them:
/// each is kept until it is answered, since the server may yet skip it.
const UNANSWERED_LIMIT: usize = 4096;
const UNANSWERED_LIMIT_BYTES: usize = 64 << 20;

/// One permitted piece of work of the upstream's.
pub(super) type Run = u64;

#[derive(Debug)]
struct Portal {
    /// The permit of its Bind, until it is executed to its end.
    run: Option<Run>,
    is_barrier: bool,
    /// Its Bind. Another portal of the same name has another.
    bind: Run,
    /// Which rules allowed that.
    rules: u64,
    /// What it was made of.
    prepared: Option<Arc<Prepared>>,
}

/// A message that was sent and not answered.
#[derive(Debug)]
enum Sent {
    /// With the bytes of its text.
    Parse(Option<Undo>, usize),
    Bind(Option<Undo>, Run),
    Describe,
    /// With the portal's name and its Bind, where it is known.
    Execute(Run, Vec<u8>, Option<Run>),
    Close(Option<Undo>),
    Sync,
    Query(Run),
    Function(Run),
    /// In place of a denied message.
    Denied,
    Own(Own),
}

/// A message of countersign's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// A simple query about the session. Nothing else is sent until it is answered.
    Query,
    /// Of a statement.
    Describe,
    /// Of [`CHANGED`].
    Parse,
    /// Of [`CHANGED`].
    Close,
    Sync,
}

/// What a name stood for.
#[derive(Debug)]
enum Undo {
    Nothing,
    Statement(Vec<u8>, Option<Arc<Prepared>>),
    Portal(Vec<u8>, Option<Portal>),
}

/// What messages of the extended protocol did since the last Sync, as far as the server was sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pipeline {
    No,
    /// Statements that outlive a Sync.
    Prepared,
    /// Portals, which need not.
    Bound,
    /// Something ran: the transaction that it opened keeps its locks.
    Worked,
}

/// Data on its way from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    No,
    In,
    /// The client ended it, and the server has not answered.
    Ending,
    Both,
}

#[derive(Debug)]
pub(super) struct Machine {
    sent: VecDeque<Sent>,
    /// Bytes of texts to prepare in there.
    sent_bytes: usize,
    statements: HashMap<Vec<u8>, Arc<Prepared>>,
    statements_bytes: usize,
    portals: HashMap<Vec<u8>, Portal>,
    transaction: Transaction,
    /// The server skips to Sync, and none was sent.
    is_skipping: bool,
    copying: Copying,
    /// What was sent since the last Sync.
    pipeline: Pipeline,
    last_run: Run,
    /// Of the last Bind that the server answered: they are answered in order.
    last_bound: Run,
    /// The run after whose end only the next message is read: it changes what messages mean.
    barrier: Option<Run>,
    /// Counts the changes of the rules.
    rules: u64,
    /// The settings under which the server will read the next text.
    read_under: Option<Arc<classify::Settings>>,
    /// The server has a statement [`CHANGED`], as far as is known.
    has_changed: bool,
    events: Vec<Event>,
}

impl Machine {
    /// A session that is ready for a query.
    pub(super) fn new() -> Self {
        Self {
            sent: VecDeque::new(),
            sent_bytes: 0,
            statements: HashMap::new(),
            statements_bytes: 0,
            portals: HashMap::new(),
            transaction: Transaction::None,
            is_skipping: false,
            copying: Copying::No,
            pipeline: Pipeline::No,
            last_run: 0,
            last_bound: 0,
            barrier: None,
            rules: 0,
            read_under: None,
            has_changed: false,
            events: Vec::new(),
        }
    }

    pub(super) fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// Nothing is due from the server: between two of its answers, and all was said.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// So much is unanswered that nothing more is sent before some of it is.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= UNANSWERED_LIMIT || self.sent_bytes >= UNANSWERED_LIMIT_BYTES
    }

    /// Where a query more changes nothing for the client.
    pub(super) fn is_between_queries(&self) -> bool {
        self.sent.is_empty() && self.pipeline == Pipeline::No && self.transaction != Transaction::Failed
    }

    /// Whether rows and copied data may come now, and are the client's.
    pub(super) fn gives_client_rows(&self) -> bool {
        matches!(self.sent.front(), Some(Sent::Query(_) | Sent::Execute(..)))
    }

    /// The settings under which the server will read the texts that come now; `None`: nobody knows.
    pub(super) fn read_under(&mut self, settings: Option<Arc<classify::Settings>>) {
        self.read_under = settings;
    }

    /// Whether the server has a statement [`CHANGED`], as far as is known.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Whether something is unanswered that may end a transaction.
    pub(super) fn may_end_transaction(&self) -> bool {
        self.sent.iter().any(|it| matches!(it, Sent::Execute(..) | Sent::Sync | Sent::Query(_)))
    }

    /// The work that the next answer is about.
    pub(super) fn current(&self) -> Option<Run> {
        match self.sent.front() {
            Some(Sent::Query(run) | Sent::Function(run) | Sent::Bind(_, run) | Sent::Execute(run, ..)) => Some(*run),
            _ => None,
        }
    }

    /// A message that the server must fail was sent in place of what it has answered already, with or
    /// without a Sync; only when nothing else is due.
    pub(super) fn fail(&mut self, has_sync: bool) {
        self.sent.push_back(Sent::Denied);
        if has_sync {
            self.sent.push_back(Sent::Sync);
        } else {
            self.pipeline = self.pipeline.max(Pipeline::Prepared);
            self.is_skipping = true;
        }
    }

    /// Whether the work before the next message already failed, so that the server would skip it.
    pub(super) fn is_skipping(&self) -> bool {
        self.is_skipping
    }

    /// Whether copied data comes from the client now.
    pub(super) fn takes_copy_data(&self) -> bool {
        matches!(self.copying, Copying::In | Copying::Both)
    }

    pub(super) fn take_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// # Errors
    /// When the message cannot come now: the session is to end.
    pub(super) fn client(&mut self, message: &Message<'_>) -> Result<Step, Broken> {
        if matches!(message, Message::Terminate) {
            return Ok(Step::End);
        }
        self.check_names()?;
        match self.copying {
            Copying::In | Copying::Both => return self.copy_message(message),
            Copying::Ending => return Ok(Step::Wait),
            Copying::No => {}
        }
        if self.is_skipping && !matches!(message, Message::Sync) {
            return Ok(Step::Drop);
        }
        if self.barrier.is_some() {
            return Ok(Step::Wait);
        }
        Ok(match message {
            Message::Query(sql) => Step::Ask(Subject::Query(Bytes::copy_from_slice(sql))),
            Message::FunctionCall(function) => Step::Ask(Subject::Function(*function)),
            Message::Bind(bind) if bind.portal.starts_with(OURS) || bind.statement.starts_with(OURS) => {
                return Err(Broken::Client(b'B'));
            }
            Message::Parse(parse) if parse.statement.starts_with(OURS) => return Err(Broken::Client(b'P')),
            Message::Describe(target) if target.name().starts_with(OURS) => return Err(Broken::Client(b'D')),
            Message::Close(target) if target.name().starts_with(OURS) => return Err(Broken::Client(b'C')),
            Message::Execute(execute) if execute.portal.starts_with(OURS) => return Err(Broken::Client(b'E')),
            Message::Bind(bind) => Step::Ask(Subject::Bind(self.bound(bind.statement))),
            Message::Execute(execute) => {
                let rules = self.rules;
                let portal = names::key(execute.portal).and_then(|name| self.portals.get_mut(name));
                match portal.and_then(|portal| Some((portal.run?, portal))) {
                    Some((run, portal)) if portal.rules != rules => Step::Ask(Subject::Again(run)),
                    Some((run, portal)) => {
                        let (is_barrier, bind) = (portal.is_barrier, portal.bind);
                        portal.run = None;
                        self.barrier = is_barrier.then_some(run);
                        self.pipeline = Pipeline::Worked;
                        self.sent.push_back(Sent::Execute(run, execute.portal.to_vec(), Some(bind)));
                        Step::Send
                    }
                    None => Step::Ask(Subject::Execute(execute.portal.to_vec())),
                }
            }
            Message::Parse(parse) => {
                let (sql, types) = (Bytes::copy_from_slice(parse.sql), parse.types().collect());
                let prepared = Prepared::new(sql, types, self.read_under.clone());
                let undo = self.set_statement(parse.statement.to_vec(), Some(Arc::new(prepared)));
                self.pipeline = self.pipeline.max(Pipeline::Prepared);
                self.sent_bytes += parse.sql.len();
                self.sent.push_back(Sent::Parse(Some(undo), parse.sql.len()));
                Step::Send
            }
            Message::Close(target) => {
                let undo = match target {
                    Target::Statement(name) => self.set_statement(name.to_vec(), None),
                    Target::Portal(name) => self.set_portal(name.to_vec(), None),
                };
                self.pipeline = self.pipeline.max(Pipeline::Prepared);
                self.sent.push_back(Sent::Close(Some(undo)));
                Step::Send
            }
            Message::Describe(target) => {
                self.tell(target);
                self.pipeline = self.pipeline.max(Pipeline::Prepared);
                self.sent.push_back(Sent::Describe);
                Step::Send
            }
            Message::Sync => {
                self.is_skipping = false;
                self.pipeline = Pipeline::No;
                self.sent.push_back(Sent::Sync);
                Step::Send
            }
            Message::Flush => Step::Send,
            Message::Password => return Err(Broken::Client(b'p')),
            // What is left of a copy that failed. Data that came before the server asked for it waited above.
            Message::CopyData | Message::CopyDone | Message::CopyFail | Message::Terminate => Step::Drop,
        })
    }

    /// A message while the server takes copied data. It ignores Flush and Sync there.
    fn copy_message(&mut self, message: &Message<'_>) -> Result<Step, Broken> {
        match message {
            Message::CopyData => Ok(Step::Send),
            Message::CopyDone | Message::CopyFail => {
                self.copying = Copying::Ending;
                Ok(Step::Send)
            }
            Message::Flush | Message::Sync => Ok(Step::Drop),
            Message::Query(_) => Err(Broken::Client(b'Q')),
            _ => Err(Broken::Client(b'P')),
        }
    }

    /// The message that was asked about goes on. `is_barrier`: it changes names, settings or the direction
    /// of the stream, so that what follows can be read only after it.
    pub(super) fn allow(&mut self, message: &Message<'_>, is_barrier: bool) -> Run {
        self.last_run += 1;
        let run = self.last_run;
        match message {
            Message::Query(_) => {
                // The unnamed ones do not outlive a simple query.
                let _ = self.set_statement(Vec::new(), None);
                if let Some(run) = self.portals.remove(b"".as_slice()).and_then(|portal| portal.run) {
                    self.events.push(Event::Over(run));
                }
                self.pipeline = Pipeline::No;
                self.sent.push_back(Sent::Query(run));
            }
            Message::FunctionCall(_) => {
                self.pipeline = Pipeline::No;
                self.sent.push_back(Sent::Function(run));
            }
            Message::Bind(bind) => {
                let prepared = self.bound(bind.statement);
                let portal = Portal { run: Some(run), is_barrier, bind: run, rules: self.rules, prepared };
                let undo = self.set_portal(bind.portal.to_vec(), Some(portal));
                self.pipeline = self.pipeline.max(Pipeline::Bound);
                self.sent.push_back(Sent::Bind(Some(undo), run));
            }
            Message::Execute(execute) => {
                let mut bind = None;
                if let Some(portal) = names::key(execute.portal).and_then(|name| self.portals.get_mut(name)) {
                    portal.rules = self.rules;
                    bind = Some(portal.bind);
                    self.events.extend(portal.run.take().map(Event::Over));
                }
                self.pipeline = Pipeline::Worked;
                self.sent.push_back(Sent::Execute(run, execute.portal.to_vec(), bind));
            }
            _ => {}
        }
        if is_barrier && !matches!(message, Message::Bind(_)) {
            self.barrier = Some(run);
        }
        run
    }

    /// The message that was asked about does not go on.
    pub(super) fn deny(&mut self, message: &Message<'_>) -> Denial {
        match message {
            Message::Bind(_) | Message::Execute(_) => {
                self.sent.push_back(Sent::Denied);
                self.pipeline = self.pipeline.max(Pipeline::Prepared);
                self.is_skipping = true;
                Denial::InTurn
            }
            _ if self.is_between_queries() && self.transaction == Transaction::None => Denial::AtOnce,
            _ => {
                self.pipeline = Pipeline::No;
                self.sent.extend([Sent::Denied, Sent::Sync]);
                Denial::InTurnWithSync
            }
        }
    }

    /// # Errors
    /// When nothing that was sent has such an answer: the session is to end.
    pub(super) fn server(&mut self, frame: &Frame<'_>) -> Result<Turn, Broken> {
        let out_of_step = Broken::Server(frame.kind);
        if let Some(Sent::Own(own)) = self.sent.front() {
            return self.own_answer(*own, frame);
        }
        match frame.kind {
            kind::PARSE_COMPLETE => match self.sent.pop_front() {
                Some(Sent::Parse(_, bytes)) => self.sent_bytes = self.sent_bytes.saturating_sub(bytes),
                _ => return Err(out_of_step),
            },
            kind::BIND_COMPLETE => match self.sent.pop_front() {
                Some(Sent::Bind(undo, run)) => {
                    self.last_bound = run;
                    if let Some(Undo::Portal(_, Some(Portal { run: Some(run), .. }))) = undo {
                        self.events.push(Event::Over(run));
                    }
                }
                _ => return Err(out_of_step),
            },
            kind::CLOSE_COMPLETE => match self.sent.pop_front() {
                Some(Sent::Close(undo)) => {
                    if let Some(Undo::Portal(_, Some(Portal { run: Some(run), .. }))) = undo {
                        self.events.push(Event::Over(run));
                    }
                }
                _ => return Err(out_of_step),
            },
            kind::ROW_DESCRIPTION | kind::NO_DATA => match self.sent.front() {
                Some(Sent::Describe) => drop(self.sent.pop_front()),
                Some(Sent::Query(_)) => {}
                _ => return Err(out_of_step),
            },
            kind::COMMAND_COMPLETE | kind::EMPTY_QUERY_RESPONSE => self.done(out_of_step)?,
            kind::PORTAL_SUSPENDED => match self.sent.pop_front() {
                Some(Sent::Execute(run, name, bind)) => {
                    // It may be executed on until it ends, as was allowed; a cursor's is asked about each time.
                    // What was bound to its name since is another, and allowed by itself.
                    match names::key(&name)
                        .and_then(|name| self.portals.get_mut(name))
                        .filter(|portal| Some(portal.bind) == bind)
                    {
                        Some(portal) => self.events.extend(portal.run.replace(run).map(Event::Over)),
                        None => self.events.extend([Event::Done(run), Event::Over(run)]),
                    }
                    self.pass_barrier(run);
                }
                _ => return Err(out_of_step),
            },
            kind::COPY_IN_RESPONSE => self.begin_copy(Copying::In, out_of_step)?,
            kind::COPY_BOTH_RESPONSE => self.begin_copy(Copying::Both, out_of_step)?,
            kind::ERROR_RESPONSE => return Ok(self.failed()),
            kind::READY_FOR_QUERY => {
                let transaction = frame.transaction().map_err(|_| out_of_step)?;
                match self.sent.pop_front() {
                    Some(Sent::Sync) => {}
                    Some(Sent::Query(run) | Sent::Function(run)) => self.over(run),
                    _ => return Err(out_of_step),
                }
                self.ready(transaction);
            }
            kind::AUTHENTICATION | kind::BACKEND_KEY_DATA | kind::NEGOTIATE_PROTOCOL_VERSION => {
                return Err(out_of_step);
            }
            // Nobody may take the rows of one statement for those of another, or of one that waits.
            kind::DATA_ROW | kind::COPY_DATA | kind::COPY_DONE | kind::COPY_OUT_RESPONSE
                if !self.gives_client_rows() =>
            {
                return Err(out_of_step);
            }
            kind::PARAMETER_DESCRIPTION if !matches!(self.sent.front(), Some(Sent::Describe)) => {
                return Err(out_of_step);
            }
            kind::FUNCTION_CALL_RESPONSE if !matches!(self.sent.front(), Some(Sent::Function(_))) => {
                return Err(out_of_step);
            }
            _ => {}
        }
        Ok(Turn::Pass)
    }

    fn done(&mut self, out_of_step: Broken) -> Result<(), Broken> {
        self.copying = Copying::No;
        match self.sent.front() {
            Some(Sent::Query(run)) => self.events.push(Event::Done(*run)),
            Some(Sent::Execute(run, ..)) => {
                let run = *run;
                self.sent.pop_front();
                self.events.push(Event::Done(run));
                self.over(run);
            }
            _ => return Err(out_of_step),
        }
        Ok(())
    }

    fn begin_copy(&mut self, copying: Copying, out_of_step: Broken) -> Result<(), Broken> {
        match self.sent.front() {
            Some(Sent::Query(_) | Sent::Execute(..)) => {
                self.copying = copying;
                Ok(())
            }
            _ => Err(out_of_step),
        }
    }

    /// An error ends what is at the front. In the extended protocol it takes along all up to the next Sync.
    fn failed(&mut self) -> Turn {
        self.copying = Copying::No;
        self.events.push(Event::Aborted);
        match self.sent.front() {
            // The last words of a server that ends the session, or a commit that failed at its Sync.
            None | Some(Sent::Sync | Sent::Own(Own::Sync)) => return Turn::Pass,
            Some(Sent::Query(run) | Sent::Function(run)) => {
                self.events.push(Event::Failed(*run));
                return Turn::Pass;
            }
            Some(_) => {}
        }
        let turn = match self.sent.front() {
            Some(Sent::Denied) => Turn::Deny,
            Some(Sent::Own(_)) => Turn::Refuse,
            _ => Turn::Pass,
        };
        let is_sync = |sent: &Sent| matches!(sent, Sent::Sync | Sent::Own(Own::Sync));
        let count = self.sent.iter().position(is_sync).unwrap_or(self.sent.len());
        let taken: Vec<Sent> = self.sent.drain(..count).collect();
        self.is_skipping = self.sent.is_empty();
        let mut is_first = true;
        let mut undos = Vec::new();
        for sent in taken {
            if !is_first && matches!(sent, Sent::Denied) {
                self.events.push(Event::Unsaid);
            }
            let run = match sent {
                Sent::Parse(undo, bytes) => {
                    self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
                    undos.extend(undo);
                    None
                }
                Sent::Close(undo) => {
                    undos.extend(undo);
                    None
                }
                Sent::Bind(undo, run) => {
                    undos.extend(undo);
                    Some(run)
                }
                Sent::Execute(run, ..) | Sent::Query(run) | Sent::Function(run) => Some(run),
                Sent::Describe | Sent::Sync | Sent::Denied | Sent::Own(_) => None,
            };
            if let Some(run) = run {
                self.events.push(if is_first { Event::Failed(run) } else { Event::Skipped(run) });
                self.over(run);
            }
            is_first = false;
        }
        for undo in undos.into_iter().rev() {
            match undo {
                Undo::Nothing => {}
                Undo::Statement(name, before) => drop(self.set_statement(name, before)),
                Undo::Portal(name, before) => drop(self.set_portal(name, before)),
            }
        }
        turn
    }

    fn ready(&mut self, transaction: Transaction) {
        self.transaction = transaction;
        if transaction == Transaction::None {
            // Portals end with their transaction, also those that were never executed. What was bound
            // in messages after the one that is answered now lives on.
            let answered = self.last_bound;
            for (_, portal) in self.portals.extract_if(|_, portal| portal.bind <= answered) {
                self.events.extend(portal.run.map(Event::Over));
                if portal.run.is_some() && self.barrier == portal.run {
                    self.barrier = None;
                }
            }
        }
        self.events.push(Event::Ready);
    }

    fn over(&mut self, run: Run) {
        self.events.push(Event::Over(run));
        self.pass_barrier(run);
    }

    fn pass_barrier(&mut self, run: Run) {
        if self.barrier == Some(run) {
            self.barrier = None;
        }
    }
}

mod names;
mod own;
mod steps;

#[cfg(test)]
mod tests;
