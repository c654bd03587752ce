//! Clients of the proxy: one keep-alive connection that speaks HTTP, and raw sockets for what no library would send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest that one read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A keep-alive connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_read_timeout(Some(READ_TIMEOUT)).expect("settable");
        stream.set_nodelay(true).expect("settable");
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the proxy reads");
    }

    pub fn get(&mut self, host: &str, path: &str) -> Answer {
        self.get_with(host, path, "")
    }

    pub fn get_with(&mut self, host: &str, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n").as_bytes());
        self.read().expect("an answer")
    }

    /// Reads one answer; `None` when the connection ends before it is whole.
    pub fn read(&mut self) -> Option<Answer> {
        let (status, headers) = self.read_head()?;
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let mut body = Vec::new();
        if matches!(status, 204 | 304) {
            return Some(Answer { status, headers, body });
        }
        if find("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
                let start = body.len();
                body.resize(start + size, 0);
                self.reader.read_exact(&mut body[start..]).ok()?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = find("content-length") {
            body.resize(length.parse().ok()?, 0);
            self.reader.read_exact(&mut body).ok()?;
        } else {
            self.reader.read_to_end(&mut body).ok()?;
        }
        Some(Answer { status, headers, body })
    }

    /// Reads one chunk of a chunked body onto `text`; its size, 0 at the end.
    pub fn chunk(&mut self, text: &mut String) -> Option<usize> {
        let size = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes).ok()?;
        self.line()?;
        text.push_str(&String::from_utf8(bytes).ok()?);
        Some(size)
    }

    pub fn read_head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let line = line.trim_end();
            if line.is_empty() {
                return Some((status, headers));
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0).then_some(line)
    }
}

/// One request on a connection of its own.
pub fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    Client::connect(address).get(host, path)
}
