//! What goes up the stream: messages, and samples that are encoded already.
//!
//! The generated client would encode every message itself; this codec writes what the sampler has written as it is.

use api::fleet::{AgentDown, AgentUp, agent_up};
use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// One message.
#[derive(Debug, Clone)]
pub enum Up {
    /// To be encoded.
    Message(Box<AgentUp>),
    /// An `AgentUp`, encoded.
    Encoded(Bytes),
}

impl From<agent_up::Message> for Up {
    fn from(message: agent_up::Message) -> Self {
        Self::Message(Box::new(AgentUp { message: Some(message) }))
    }
}

/// The stream's codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpCodec;

impl Codec for UpCodec {
    type Encode = Up;
    type Decode = AgentDown;
    type Encoder = Self;
    type Decoder = ProstDecoder<AgentDown>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<AgentUp, AgentDown>::default().decoder()
    }
}

impl Encoder for UpCodec {
    type Item = Up;
    type Error = Status;

    fn encode(&mut self, up: Up, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match up {
            Up::Message(message) => message.encode(out).map_err(|error| Status::internal(error.to_string())),
            Up::Encoded(bytes) => {
                out.put(bytes);
                Ok(())
            }
        }
    }
}
