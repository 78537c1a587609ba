//! A client of PostgreSQL that sends exactly the messages it is given and reads the answers one by one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use super::PATIENCE;
use super::driver::Door;

/// One session.
pub(crate) struct Frontend {
    stream: TcpStream,
    /// What was read and not asked for yet.
    unread: BytesMut,
    /// As ParameterStatus gave them, in order.
    pub(crate) parameters: Vec<(String, String)>,
    /// Process id and secret of BackendKeyData.
    pub(crate) key: (i32, i32),
}

/// One message of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", char::from(self.tag), self.body.escape_ascii())
    }
}

impl Message {
    /// A field of ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the message.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        let field = self.body.split(|byte| *byte == 0).find(|field| field.first() == Some(&code))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    }
}

/// Builds messages, one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Batch(pub(crate) BytesMut);

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn query(mut self, text: &str) -> Self {
        frontend::query(text, &mut self.0).unwrap();
        self
    }

    pub(crate) fn parse(mut self, name: &str, text: &str) -> Self {
        frontend::parse(name, text, [], &mut self.0).unwrap();
        self
    }

    /// With these values in text.
    pub(crate) fn bind(mut self, portal: &str, statement: &str, values: &[&str]) -> Self {
        let put = |value: &&str, buffer: &mut BytesMut| {
            buffer.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        let bound = frontend::bind(portal, statement, [], values, put, [], &mut self.0);
        assert!(bound.is_ok());
        self
    }

    /// `kind` is `S` or `P`.
    pub(crate) fn describe(mut self, kind: u8, name: &str) -> Self {
        frontend::describe(kind, name, &mut self.0).unwrap();
        self
    }

    pub(crate) fn execute(mut self, portal: &str, limit: i32) -> Self {
        frontend::execute(portal, limit, &mut self.0).unwrap();
        self
    }

    pub(crate) fn close(mut self, kind: u8, name: &str) -> Self {
        frontend::close(kind, name, &mut self.0).unwrap();
        self
    }

    pub(crate) fn sync(mut self) -> Self {
        frontend::sync(&mut self.0);
        self
    }

    /// Any message, well-formed or not.
    pub(crate) fn raw(mut self, tag: u8, body: &[u8]) -> Self {
        self.0.extend_from_slice(&[tag]);
        self.0.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
        self.0.extend_from_slice(body);
        self
    }
}

impl Frontend {
    /// Logs in with SCRAM.
    #[track_caller]
    pub(crate) fn connect(door: &Door) -> Self {
        Self::connect_with(door, &[])
    }

    #[track_caller]
    pub(crate) fn connect_with(door: &Door, options: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Self { stream, unread: BytesMut::new(), parameters: Vec::new(), key: (0, 0) };
        let mut first = BytesMut::new();
        let names = [("user", door.user.as_str()), ("database", door.database.as_str())];
        frontend::startup_message(names.into_iter().chain(options.iter().copied()), &mut first).unwrap();
        session.send(&first);
        session.log_in(&door.password);
        session
    }

    #[track_caller]
    fn log_in(&mut self, password: &str) {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = self.read();
            let mut answer = BytesMut::new();
            match (message.tag, message.body.get(3)) {
                (b'R', Some(10)) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut answer).unwrap();
                }
                (b'R', Some(11)) => {
                    scram.update(&message.body[4..]).unwrap();
                    frontend::sasl_response(scram.message(), &mut answer).unwrap();
                }
                (b'R', Some(12)) => scram.finish(&message.body[4..]).unwrap(),
                (b'R', Some(0)) => {}
                (b'S', _) => {
                    let mut texts =
                        message.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                    self.parameters.push((texts.next().unwrap(), texts.next().unwrap()));
                }
                (b'K', _) => {
                    let number = |at: usize| i32::from_be_bytes(message.body[at..at + 4].try_into().unwrap());
                    self.key = (number(0), number(4));
                }
                (b'N', _) => {}
                (b'Z', _) => return,
                _ => panic!("not let in: {message:?}"),
            }
            self.send(&answer);
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The same connection, to be written to while its answers are read.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Asks for the end of what runs, and returns when the other side has closed that connection.
    #[track_caller]
    pub(crate) fn cancel(&self, door: &Door) {
        let mut stream = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = BytesMut::new();
        frontend::cancel_request(self.key.0, self.key.1, &mut request);
        stream.write_all(&request).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "a cancel request has no answer");
    }

    /// Sends as much as the other side takes.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message; the connection must not end.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Message {
        match self.try_read() {
            Some(message) => message,
            None => panic!("the connection ended"),
        }
    }

    /// The next message; `None` when the connection ended instead.
    #[track_caller]
    pub(crate) fn try_read(&mut self) -> Option<Message> {
        loop {
            if let Some(head) = self.unread.get(..5) {
                let length = usize::try_from(i32::from_be_bytes(head[1..].try_into().unwrap())).unwrap();
                if self.unread.len() > length {
                    let message = self.unread.split_to(length + 1);
                    return Some(Message { tag: message[0], body: message[5..].to_vec() });
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}; read so far: {:?}", self.unread),
            }
        }
    }

    /// All messages up to the first one with this tag, and that one.
    #[track_caller]
    pub(crate) fn read_to(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read();
            let is_last = message.tag == tag;
            messages.push(message);
            if is_last {
                return messages;
            }
        }
    }

    /// Sends a batch with one Sync or Query at its end, and reads to ReadyForQuery.
    #[track_caller]
    pub(crate) fn ask(&mut self, batch: Batch) -> Vec<Message> {
        self.send(&batch.0);
        self.read_to(b'Z')
    }
}
