//! The header of a packet (virtio 1.2, section 5.10.6).

/// Bytes of a header.
pub(super) const HEADER: usize = 44;
/// The kind of sockets there is.
pub(super) const STREAM: u16 = 1;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Unknown,
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

const OPS: [Op; 8] = [
    Op::Unknown,
    Op::Request,
    Op::Response,
    Op::Reset,
    Op::Shutdown,
    Op::Data,
    Op::CreditUpdate,
    Op::CreditRequest,
];

/// The sender of a shutdown will receive no more.
pub(super) const NO_RECEIVE: u32 = 1;
/// The sender of a shutdown will send no more.
pub(super) const NO_SEND: u32 = 2;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub source: u64,
    pub destination: u64,
    pub source_port: u32,
    pub destination_port: u32,
    /// Bytes of data that follow.
    pub len: u32,
    pub kind: u16,
    pub op: Op,
    pub flags: u32,
    /// The sender's buffer for this connection, and how much it has taken out of it, in bytes.
    pub buffer: u32,
    pub forwarded: u32,
}

impl Header {
    pub fn is_stream(&self) -> bool {
        self.kind == STREAM
    }

    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let op = OPS.iter().position(|op| *op == self.op).unwrap_or(0) as u16;
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.source.to_le_bytes());
        put(8, &self.destination.to_le_bytes());
        put(16, &self.source_port.to_le_bytes());
        put(20, &self.destination_port.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &self.kind.to_le_bytes());
        put(30, &op.to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buffer.to_le_bytes());
        put(40, &self.forwarded.to_le_bytes());
        bytes
    }
}

impl From<[u8; HEADER]> for Header {
    fn from(bytes: [u8; HEADER]) -> Self {
        fn take<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
            std::array::from_fn(|n| bytes.get(at + n).copied().unwrap_or(0))
        }
        let op = usize::from(u16::from_le_bytes(take(&bytes, 30)));
        Self {
            source: u64::from_le_bytes(take(&bytes, 0)),
            destination: u64::from_le_bytes(take(&bytes, 8)),
            source_port: u32::from_le_bytes(take(&bytes, 16)),
            destination_port: u32::from_le_bytes(take(&bytes, 20)),
            len: u32::from_le_bytes(take(&bytes, 24)),
            kind: u16::from_le_bytes(take(&bytes, 28)),
            op: OPS.get(op).copied().unwrap_or(Op::Unknown),
            flags: u32::from_le_bytes(take(&bytes, 32)),
            buffer: u32::from_le_bytes(take(&bytes, 36)),
            forwarded: u32::from_le_bytes(take(&bytes, 40)),
        }
    }
}
