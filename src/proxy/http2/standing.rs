//! What stands on a connection: answers that the client takes nothing of, uploads that nobody takes,
//! frames and heads that have not come in full.

use tokio::time::Instant;

use super::core::Core;
use crate::proxy::io::REQUEST_BYTES;

impl Core {
    /// How much there is of it, in bytes, and since when what has stood the longest on a stream does.
    pub(super) fn standing(&mut self, clock: fn() -> Instant) -> (usize, Option<Instant>) {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.len());
        let mut bytes = self.out.len() + self.partial.len() + block;
        let (mut now, mut longest) = (None, None::<Instant>);
        for (_, stream) in &mut self.streams {
            let piece = if stream.pending.is_empty() { 0 } else { stream.piece };
            let waits = piece + stream.untaken.len();
            if waits == 0 {
                stream.stands = None;
                continue;
            }
            bytes += waits + REQUEST_BYTES;
            let since = match stream.stands {
                Some((since, at)) if at == stream.moved => since,
                _ => *now.get_or_insert_with(clock),
            };
            stream.stands = Some((since, stream.moved));
            longest = Some(longest.map_or(since, |longest| longest.min(since)));
        }
        (bytes, longest)
    }
}
