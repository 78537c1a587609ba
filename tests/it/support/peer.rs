//! A client that sends exactly the bytes it is given and reads answers byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// One connection to the proxy.
pub(crate) struct Peer {
    reader: BufReader<TcpStream>,
}

/// One whole answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Status codes of the interim answers before it.
    pub(crate) interims: Vec<u16>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends as much as the other side takes; it may refuse and close before it has read all.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The next answer; `None` when the connection was closed instead.
    pub(crate) fn read(&mut self) -> Option<Answer> {
        let mut answer = Answer::default();
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) {
                answer.interims.push(status);
                continue;
            }
            let length = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            answer.body = match (length("content-length"), length("transfer-encoding")) {
                (Some((_, bytes)), _) => self.exactly(bytes.parse().ok()?)?,
                (None, Some(_)) => self.chunks()?,
                (None, None) if status == 204 || status == 304 => Vec::new(),
                (None, None) => {
                    let mut rest = Vec::new();
                    self.reader.read_to_end(&mut rest).ok()?;
                    rest
                }
            };
            (answer.status, answer.headers) = (status, headers);
            return Some(answer);
        }
    }

    /// The status of the next interim answer.
    pub(crate) fn interim(&mut self) -> u16 {
        let (status, _) = self.head().unwrap();
        assert!((100..200).contains(&status), "{status} is no interim answer");
        status
    }

    /// Reads and forgets a body of that many bytes.
    pub(crate) fn skip(&mut self, bytes: u64) {
        let mut rest = (&mut self.reader).take(bytes);
        assert_eq!(std::io::copy(&mut rest, &mut std::io::sink()).unwrap(), bytes);
    }

    /// Sends one request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Answer {
        let sent = self.try_send(bytes);
        match self.read() {
            Some(answer) => answer,
            None => panic!("the connection was closed without an answer ({sent:?})"),
        }
    }

    /// True when the other side has closed and sent nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]) | Err(_))
    }

    pub(crate) fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some((status, headers));
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).ok()?;
        (count > 0 && line.ends_with("\r\n")).then(|| line.trim_end().to_owned())
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Some(body);
            }
            body.extend(chunk);
        }
    }

    /// The next chunk of a body; an empty one is its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).ok()?;
        let chunk = self.exactly(size)?;
        self.line()?;
        Some(chunk)
    }
}
