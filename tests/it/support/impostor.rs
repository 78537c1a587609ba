//! A server of PostgreSQL that says what a test tells it to. It lets everybody in, answers what countersign
//! asks about a new session, and leaves the rest to a script; connections of countersign's own get
//! answers without rows.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::frontend::{Batch, Message};

/// Where it listens, and what it heard.
pub(crate) struct Impostor {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<Message>>>,
    cancels: Arc<AtomicUsize>,
}

/// The server's side of one session of an agent's.
pub(crate) struct Stage {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<Message>>>,
}

/// What is said from the client's startup packet on.
type Script = Arc<dyn Fn(&mut Stage) + Send + Sync>;

impl Impostor {
    /// Follows the script in each session that countersign was told is ready.
    pub(crate) fn start(script: impl Fn(&mut Stage) + Send + Sync + 'static) -> Self {
        Self::from_the_login(move |stage| {
            stage.let_in();
            script(stage);
        })
    }

    /// Follows the script in each session from the startup packet on.
    pub(crate) fn from_the_login(script: impl Fn(&mut Stage) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, cancels) = (Arc::<Mutex<Vec<Message>>>::default(), Arc::<AtomicUsize>::default());
        let (ears, count, script): (_, _, Script) = (Arc::clone(&heard), Arc::clone(&cancels), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (ears, count, script) = (Arc::clone(&ears), Arc::clone(&count), Arc::clone(&script));
                std::thread::spawn(move || serve(stream.unwrap(), ears, &count, &script));
            }
        });
        Self { port, heard, cancels }
    }

    /// The lines below `upstream.postgres` that lead here.
    pub(crate) fn config(&self) -> String {
        format!("hosts: ['127.0.0.1:{}']\nuser: app\ndatabase: stage\npassword_file: real\ntls: disable\n", self.port)
    }

    /// Every message of agents' sessions so far, in no order between sessions.
    pub(crate) fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether anything that it heard has this text in it.
    pub(crate) fn has_heard(&self, text: &str) -> bool {
        self.heard().iter().any(|it| it.body.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    pub(crate) fn cancels(&self) -> usize {
        self.cancels.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, heard: Arc<Mutex<Vec<Message>>>, cancels: &AtomicUsize, script: &Script) {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    if stream.read_exact(&mut packet).is_err() {
        return;
    }
    if packet.starts_with(&80_877_102_u32.to_be_bytes()) {
        cancels.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let is_own = packet.windows(29).any(|it| it == b"application_name\0countersign\0");
    let mut stage = Stage { stream, heard };
    if !is_own {
        return script(&mut stage);
    }
    stage.heard = Arc::default();
    stage.send(&greeting());
    while let Some(message) = stage.read() {
        if matches!(message.tag, b'Q' | b'S') {
            stage.send(&ready(b'I'));
        }
    }
}

impl Stage {
    /// Greets a new session, and answers countersign's question about it.
    pub(crate) fn let_in(&mut self) {
        self.send(&greeting());
        self.answer_question();
    }

    pub(crate) fn answer_question(&mut self) {
        let Some(question) = self.read() else { return };
        let text = String::from_utf8_lossy(&question.body).into_owned();
        let mut out = Vec::new();
        for part in text.split(';') {
            let value = match part.trim().trim_end_matches('\0') {
                "SHOW search_path" => "public",
                "SHOW role" => "none",
                _ => "0",
            };
            out.extend([columns(1), row(&[value]), done("SHOW")].concat());
        }
        self.send(&[out, ready(b'I')].concat());
        self.heard.lock().unwrap().clear();
    }

    /// The next message of countersign's; `None` when the connection ended.
    pub(crate) fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).ok()?;
        let message = Message { tag: head[0], body };
        self.heard.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// Reads on to a message of this type.
    pub(crate) fn read_to(&mut self, tag: u8) -> Option<Message> {
        loop {
            let message = self.read()?;
            if message.tag == tag {
                return Some(message);
            }
        }
    }

    /// Says this, as far as the other side takes it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes);
    }

    /// Whether the other side took it.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Says no more, and waits for the other side to leave.
    pub(crate) fn close(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
        while self.read().is_some() {}
    }

    /// Gives up when nothing can be read or said for so long.
    pub(crate) fn patience(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        self.stream.set_write_timeout(Some(limit)).unwrap();
    }
}

/// One message of any type.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    Batch::new().raw(tag, body).0.to_vec()
}

pub(crate) fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

pub(crate) fn done(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

pub(crate) fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Mmade up\0\0").as_bytes())
}

/// RowDescription with so many columns of text.
pub(crate) fn columns(count: u16) -> Vec<u8> {
    let column = [b"c\0".as_slice(), &[0; 6], &25_u32.to_be_bytes(), &[0xff; 6], &[0; 2]].concat();
    message(b'T', &[count.to_be_bytes().to_vec(), column.repeat(usize::from(count))].concat())
}

pub(crate) fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    message(b'D', &body)
}

pub(crate) fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

/// From AuthenticationOk to ReadyForQuery.
pub(crate) fn greeting() -> Vec<u8> {
    let parameters = [("server_version", "15.0"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];
    let parameters = parameters.map(|(name, value)| parameter(name, value)).concat();
    [message(b'R', &[0; 4]), parameters, message(b'K', &[0, 0, 16, 1, 0, 0, 0, 7]), ready(b'I')].concat()
}
