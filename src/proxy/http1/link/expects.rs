//! A client that waits for a word before it sends its body (RFC 9110 section 10.1.1).

use std::task::Context;

use bytes::Bytes;

use super::Link;
use crate::proxy::io::ClientStream;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Link {
    /// Says what the client waits for, if it does. Should that fail, reading tells; should it have to
    /// wait, it is tried again with the next read, and in the end the answer takes it along.
    pub(super) fn ask_for_body(&mut self, cx: &mut Context<'_>) {
        if self.expects {
            self.expects = false;
            self.out.extend_from_slice(CONTINUE);
        }
        if self.answering {
            return;
        }
        if !self.out.is_empty() {
            let _ = self.poll_write(cx, &mut Bytes::new(), &mut &[][..]);
        } else if self.stream.as_ref().map_or(0, ClientStream::sealed) > 0 {
            // TLS has taken it, and could not send it.
            let _ = self.poll_flush(cx);
        }
    }
}
