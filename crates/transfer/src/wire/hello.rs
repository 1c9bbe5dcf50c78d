//! The first frames of a connection: who speaks, and whether the other likes it.

use std::fmt;

use super::{Kind, Reader, WireError, frame, put_name};

/// The first bytes of a hello.
const MAGIC: u64 = u64::from_le_bytes(*b"batonwr1");
/// The protocol that this crate speaks.
pub const PROTOCOL: u16 = 2;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Calls of who dialled, answers of who was dialled.
    Call,
    /// Pulls of who dialled, bytes of who was dialled.
    Bulk,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// What for.
    pub lane: Lane,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// Which of the lives of that node.
    pub incarnation: u64,
    /// Which kernel it runs under; 0 if it does not know. Believed, since it only decides how bytes are sent.
    pub machine: u64,
}

impl Hello {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Hello, 0, |out| {
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&self.protocol.to_le_bytes());
            out.push(match self.lane {
                Lane::Call => 1,
                Lane::Bulk => 2,
            });
            out.extend_from_slice(&self.incarnation.to_le_bytes());
            out.extend_from_slice(&self.machine.to_le_bytes());
            put_name(out, &self.cluster);
            put_name(out, &self.node);
        });
    }

    /// Reads the body of one.
    ///
    /// # Errors
    /// [`WireError`] naming the field.
    pub fn decode(body: &[u8]) -> Result<Hello, WireError> {
        let mut reader = Reader(body);
        if reader.u64()? != MAGIC {
            return Err(WireError::Field("magic"));
        }
        let protocol = reader.u16()?;
        let lane = match reader.u8()? {
            1 => Lane::Call,
            2 => Lane::Bulk,
            _ => return Err(WireError::Field("lane")),
        };
        let (incarnation, machine) = (reader.u64()?, reader.u64()?);
        let (cluster, node) = (reader.name("cluster")?.to_owned(), reader.name("node")?.to_owned());
        reader.end()?;
        Ok(Hello { protocol, lane, cluster, node, incarnation, machine })
    }
}

/// Why a node wants nothing to do with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// It speaks another protocol.
    Protocol = 1,
    /// It is of another cluster.
    Cluster = 2,
    /// It is none of the members that are known here.
    Unknown = 3,
    /// It is, or takes the other for, another life of the node.
    Incarnation = 4,
    /// It is not the node that it says, or that was meant.
    Identity = 5,
    /// It has too many connections.
    Crowded = 6,
}

impl Rejection {
    /// Appends the frame.
    pub fn encode(self, out: &mut Vec<u8>) {
        frame(out, Kind::Refuse, 0, |out| out.push(self as u8));
    }

    /// Reads the body of one.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(body: &[u8]) -> Result<Rejection, WireError> {
        use Rejection::*;
        let mut reader = Reader(body);
        let why = reader.u8()?;
        reader.end()?;
        let all = [Protocol, Cluster, Unknown, Incarnation, Identity, Crowded];
        all.into_iter().find(|each| *each as u8 == why).ok_or(WireError::Field("why"))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::Protocol => {
                "the nodes speak different protocols: run the same version of baton on both"
            }
            Rejection::Cluster => "the nodes are of different clusters",
            Rejection::Unknown => "the node is no known member of the cluster",
            Rejection::Incarnation => "the node was started anew and its members have not been read since",
            Rejection::Identity => "the node is not the one that was meant, or not the one that it says",
            Rejection::Crowded => "the node has too many connections",
        })
    }
}
