//! The header of a packet (virtio 1.2 §5.10.6), copied once and then a plain value.

/// Bytes of a header.
pub const HEADER: usize = 44;
/// The host's context id.
pub const HOST_CID: u64 = 2;
/// The only socket type we serve.
pub const STREAM: u16 = 1;
/// Largest payload we put into one packet, in bytes.
pub const MAX_PAYLOAD: u32 = 64 << 10;

/// Flag of [`Op::Shutdown`]: the sender of the packet receives no more.
pub const NO_MORE_RECEIVE: u32 = 1;
/// Flag of [`Op::Shutdown`]: the sender of the packet sends no more.
pub const NO_MORE_SEND: u32 = 2;

/// What a packet is for (virtio 1.2 §5.10.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Open a connection.
    Request = 1,
    /// It is open.
    Response = 2,
    /// There is no such connection, or no longer.
    Reset = 3,
    /// One or both directions end.
    Shutdown = 4,
    /// Data.
    Data = 5,
    /// The sender's room, in every header, told on its own.
    CreditUpdate = 6,
    /// Tell me your room.
    CreditRequest = 7,
}

impl Op {
    /// The operation of this number.
    pub fn of(number: u16) -> Option<Self> {
        [
            Self::Request,
            Self::Response,
            Self::Reset,
            Self::Shutdown,
            Self::Data,
            Self::CreditUpdate,
            Self::CreditRequest,
        ]
        .into_iter()
        .find(|op| *op as u16 == number)
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Sender's context id.
    pub src_cid: u64,
    /// Receiver's context id.
    pub dst_cid: u64,
    /// Sender's port.
    pub src_port: u32,
    /// Receiver's port.
    pub dst_port: u32,
    /// Bytes of payload that follow.
    pub len: u32,
    /// Socket type ([`STREAM`]).
    pub kind: u16,
    /// See [`Op`].
    pub op: u16,
    /// See [`Op::Shutdown`].
    pub flags: u32,
    /// Bytes the sender can hold for this connection.
    pub buf_alloc: u32,
    /// Bytes of this connection the sender has passed on, modulo 2³².
    pub fwd_cnt: u32,
}

impl Header {
    /// As it lies in guest memory, little-endian.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// From a copy of guest memory; any bytes are a header, to be judged.
    pub fn from_bytes(bytes: &[u8; HEADER]) -> Self {
        fn part<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
            std::array::from_fn(|n| bytes[at + n])
        }
        Self {
            src_cid: u64::from_le_bytes(part(bytes, 0)),
            dst_cid: u64::from_le_bytes(part(bytes, 8)),
            src_port: u32::from_le_bytes(part(bytes, 16)),
            dst_port: u32::from_le_bytes(part(bytes, 20)),
            len: u32::from_le_bytes(part(bytes, 24)),
            kind: u16::from_le_bytes(part(bytes, 28)),
            op: u16::from_le_bytes(part(bytes, 30)),
            flags: u32::from_le_bytes(part(bytes, 32)),
            buf_alloc: u32::from_le_bytes(part(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(part(bytes, 40)),
        }
    }

    /// The answer that there is no such connection.
    pub fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: Op::Reset as u16,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_header_and_back(bytes in any::<[[u8; 22]; 2]>()) {
            let bytes: [u8; HEADER] = bytes.concat().try_into().unwrap();
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn lies_as_the_specification_says() {
        let bytes: [u8; HEADER] = std::array::from_fn(|n| n as u8);
        let header = Header::from_bytes(&bytes);
        assert_eq!((header.src_port, header.len), (0x1312_1110, 0x1b1a_1918));
        assert_eq!(
            (header.kind, header.op, header.fwd_cnt),
            (0x1d1c, 0x1f1e, 0x2b2a_2928)
        );
        assert_eq!(Op::of(0), None);
        assert_eq!(Op::of(5), Some(Op::Data));
        assert_eq!(Op::of(8), None);
    }
}
