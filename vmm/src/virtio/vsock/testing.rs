//! Packets for tests of other modules and for fuzz targets.

use super::packet::{HEADER, HOST_CID, Header, STREAM};

/// The header of a packet from the guest to the host.
pub fn packet(cid: u64, from: u32, to: u32, op: u16, flags: u32, len: u32) -> [u8; HEADER] {
    let header = Header {
        src_cid: cid,
        dst_cid: HOST_CID,
        src_port: from,
        dst_port: to,
        len,
        kind: STREAM,
        op,
        flags,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    };
    header.to_bytes()
}

/// Operation and length of a packet to the guest.
pub fn packet_in(bytes: &[u8]) -> (u16, u32) {
    let header = Header::from_bytes(bytes.try_into().expect("44 bytes"));
    (header.op, header.len)
}
