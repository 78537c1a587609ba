//! An upstream that counts what reaches it and misbehaves on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest;
use socket2::SockRef;

use super::PATIENCE;

/// A listening upstream. Every request is kept; what it answers is the plan's choice.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The first 64 KiB of the body.
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    pub(crate) body_sha256: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    Answer(u16, String),
    /// A body of that many chunks of 64 KiB, whose length nobody states.
    Chunks(usize),
    /// Bytes that are no HTTP.
    Garbage,
    /// The head and half of the body, then the end of the connection.
    Half(String),
    /// Nothing, until the connection goes away.
    Hang,
    /// A TCP reset.
    Reset,
    /// A body of that many zeroes.
    Stream(u64),
    /// A body of that type whose second chunk waits for [`Upstream::open`].
    Trickle(&'static str),
    /// Waits for [`Upstream::open`], then answers.
    Wait(u16, String),
}

type Plan = dyn Fn(&Received) -> Reaction + Send + Sync;

struct Shared {
    plan: Box<Plan>,
    received: Mutex<Vec<Received>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Upstream {
    /// Answers each request by the plan.
    pub(crate) fn start(plan: impl Fn(&Received) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            plan: Box::new(plan),
            received: Mutex::default(),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&accepting);
                let stream = stream.unwrap();
                // A thousand connections at once are a test's business, so the stacks are small.
                thread::Builder::new().stack_size(256 << 10).spawn(move || drop(serve(stream, &shared))).unwrap();
            }
        });
        Self { address, shared }
    }

    /// Answers everything with this IAM-like XML.
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::start(move |_| Reaction::Answer(200, body.to_owned()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Requests whose body or target contains a text.
    pub(crate) fn count(&self, text: &str) -> usize {
        let received = self.shared.received.lock().unwrap();
        received.iter().filter(|it| it.target.contains(text) || it.text().contains(text)).count()
    }

    /// Lets everything that waits, and will wait, be answered.
    pub(crate) fn open(&self) {
        *self.shared.is_open.lock().unwrap() = true;
        self.shared.opened.notify_all();
    }

    /// What comes waits again.
    pub(crate) fn close(&self) {
        *self.shared.is_open.lock().unwrap() = false;
    }
}

impl Shared {
    fn wait(&self) {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open).unwrap());
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    while let Some(received) = read_request(&mut reader, &mut writer)? {
        // countersign asks whose its credential is; that is no agent's request.
        if received.text().contains("Action=GetCallerIdentity") {
            write_answer(&mut writer, 200, CALLER, CALLER.len())?;
            continue;
        }
        let reaction = (shared.plan)(&received);
        shared.received.lock().unwrap().push(received);
        match reaction {
            Reaction::Answer(status, body) => write_answer(&mut writer, status, &body, body.len())?,
            Reaction::Chunks(count) => {
                writer.write_all(b"HTTP/1.1 200 Scripted\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let chunk = [&b"10000\r\n"[..], &[0; 64 << 10], b"\r\n"].concat();
                (0..count).try_for_each(|_| writer.write_all(&chunk))?;
                writer.write_all(b"0\r\n\r\n")?;
            }
            Reaction::Garbage => return writer.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
            Reaction::Half(body) => return write_answer(&mut writer, 200, &body, body.len() * 2),
            Reaction::Hang => {
                reader.get_ref().set_read_timeout(Some(PATIENCE))?;
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Reaction::Reset => return SockRef::from(&writer).set_linger(Some(Duration::ZERO)),
            Reaction::Stream(bytes) => {
                let head = format!("HTTP/1.1 200 Scripted\r\ncontent-length: {bytes}\r\n\r\n");
                writer.write_all(head.as_bytes())?;
                std::io::copy(&mut std::io::repeat(0).take(bytes), &mut writer)?;
            }
            Reaction::Trickle(kind) => {
                let head =
                    format!("HTTP/1.1 200 Scripted\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
                writer.write_all((head + "5\r\nfirst\r\n").as_bytes())?;
                shared.wait();
                writer.write_all(b"4\r\nlast\r\n0\r\n\r\n")?;
            }
            Reaction::Wait(status, body) => {
                shared.wait();
                write_answer(&mut writer, status, &body, body.len())?;
            }
        }
    }
    Ok(())
}

fn write_answer(writer: &mut TcpStream, status: u16, body: &str, announced: usize) -> std::io::Result<()> {
    let kind = if body.starts_with('{') { "application/x-amz-json-1.0" } else { "text/xml" };
    let id = "00000000-0000-4000-8000-000000000000";
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\nx-amzn-requestid: {id}\r\ncontent-length: {announced}\r\n\r\n"
    );
    writer.write_all((head + body).as_bytes())
}

fn read_request(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> std::io::Result<Option<Received>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut received =
        Received { method, target, headers, body: Vec::new(), body_bytes: 0, body_sha256: String::new() };
    if received.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    if received.header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim_end(), 16).unwrap_or(0);
            take(reader, size, &mut received, &mut hash)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        let size = received.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        take(reader, size, &mut received, &mut hash)?;
    }
    received.body_sha256 = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(received))
}

/// Reads that many bytes of body without keeping more than the first 64 KiB.
fn take(
    reader: &mut BufReader<TcpStream>,
    mut size: u64,
    received: &mut Received,
    hash: &mut digest::Context,
) -> std::io::Result<()> {
    let mut buffer = [0; 32 << 10];
    while size > 0 {
        let wanted = usize::try_from(size).unwrap_or(buffer.len()).min(buffer.len());
        let count = reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..count]);
        let room = (64 << 10) - received.body.len().min(64 << 10);
        received.body.extend_from_slice(&buffer[..count.min(room)]);
        received.body_bytes += count as u64;
        size -= count as u64;
    }
    Ok(())
}

pub(crate) const CALLER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/countersign</Arn><UserId>AIDAREAL</UserId>\
<Account>123456789012</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId>\
</ResponseMetadata></GetCallerIdentityResponse>";
