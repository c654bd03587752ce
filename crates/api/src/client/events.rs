//! Server-sent events, read as typed values.

use super::Error;
use reqwest::Response;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Bytes that one event may have.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// A stream of events whose data is JSON of `T`.
pub struct Events<T> {
    answer: Response,
    buffer: Vec<u8>,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Events<T> {
    pub(super) fn new(answer: Response) -> Self {
        Self { answer, buffer: Vec::new(), of: PhantomData }
    }

    /// The next event; `None` at the stream's end.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        loop {
            if let Some(data) = self.take_event() {
                let garbled = |e: serde_json::Error| Error::Garbled { at: "event".to_owned(), why: e.to_string() };
                return Some(serde_json::from_slice(&data).map_err(garbled));
            }
            match self.answer.chunk().await {
                Ok(Some(bytes)) if self.buffer.len() + bytes.len() <= EVENT_BYTES_MAX => self.buffer.extend(bytes),
                Ok(Some(_)) => {
                    let why = format!("an event of more than {EVENT_BYTES_MAX} bytes");
                    return Some(Err(Error::Garbled { at: "event stream".to_owned(), why }));
                }
                Ok(None) => return None,
                Err(e) => return Some(Err(Error::Garbled { at: "event stream".to_owned(), why: e.to_string() })),
            }
        }
    }

    /// Cuts the first whole event with data out of the buffer; comments (keep-alives) are passed over.
    fn take_event(&mut self) -> Option<Vec<u8>> {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let mut data = Vec::new();
            for line in event.split(|byte| *byte == b'\n') {
                if let Some(rest) = line.strip_prefix(b"data:") {
                    data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
                }
            }
            if !data.is_empty() {
                return Some(data);
            }
        }
        None
    }
}
