//! Fields of messages between the processes, and of entries on disk.

/// A duration, as it is written down.
pub(crate) use spa_proto::millis;

/// Reads fields of fixed length, one after the other: what has not been read yet.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl Reader<'_> {
    /// The next `N` bytes; `None` where there are fewer.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    /// The next eight bytes as a big-endian number.
    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}
