//! Small frames out of a connection's bytes.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::pipe::Pipe;
use crate::wire::{HEADER, Header, Road, WireError};

/// Bytes that are read at a time, as far as the frame that they begin is not longer.
const READ: usize = 32 * 1024;

/// What was read and is no whole frame yet.
pub(crate) struct Frames {
    road: Road,
    buffer: BytesMut,
    header: Option<Header>,
}

impl Frames {
    pub(crate) fn new(road: Road) -> Frames {
        Frames { road, buffer: BytesMut::new(), header: None }
    }

    /// Reads what there is; 0 at the end of the connection.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        // A judged header bounds what is allocated for its body.
        let wanted = self.header.map_or(READ, |header| READ.max(HEADER + header.len as usize));
        // Of a buffer that no frame refers to any more the kernel's next bytes take the place.
        self.buffer.reserve(wanted.saturating_sub(self.buffer.len()).max(READ / 2));
        pipe.poll_read_more(cx, &mut self.buffer)
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Result<Option<(Header, Bytes)>, WireError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
                let header = Header::parse(bytes, self.road)?;
                self.header = Some(header);
                header
            }
        };
        let whole = HEADER + header.len as usize;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.header = None;
        let mut frame = self.buffer.split_to(whole);
        frame.advance(HEADER);
        Ok(Some((header, frame.freeze())))
    }
}
