//! The disk: what a guest puts into its queue. A read-only disk stays as it is.
#![no_main]

use arbitrary::Arbitrary;
use casemate_fuzz::guest::{Buffer, Guest, Place, Step};
use casemate_fuzz::kernel::file;
use casemate_proto::control::DiskConfig;
use casemate_vmm::virtio::block::{Block, Disk};
use libfuzzer_sys::fuzz_target;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const SECTORS: u64 = 64;
const HEADER: u64 = 0x3_0000;
const STATUS: u64 = 0x3_0020;

#[derive(Debug, Clone, Arbitrary)]
struct Request {
    kind: u8,
    sector: u16,
    far: bool,
    data: Vec<Buffer>,
    status: Option<Place>,
}

#[derive(Debug, Arbitrary)]
struct Input {
    read_only: bool,
    /// The file's length becomes this many bytes after the start.
    shrunk: Option<u16>,
    steps: Vec<Step<Request>>,
}

fn request(guest: &mut Guest<Block>, request: &Request) {
    let kind = match request.kind % 8 {
        n @ (0 | 1 | 4 | 5) => u32::from(n),
        6 => 8,
        n => u32::from(n) << 24 | u32::from(request.kind),
    };
    let sector = u64::from(request.sector) << if request.far { 48 } else { 0 };
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    guest.poke(HEADER, &header);
    let data = request.data.iter().take(30);
    let data = data.map(|b| (b.at.address(), b.len.bytes(), b.writable ^ (kind != 1)));
    let status = request.status.map_or(STATUS, Place::address);
    let buffers: Vec<_> = [(HEADER, 16, false)]
        .into_iter()
        .chain(data)
        .chain([(status, 1, true)])
        .collect();
    guest.chain(0, &buffers);
    guest.kick(0);
}

fuzz_target!(|input: Input| {
    let bytes: Vec<u8> = (0..SECTORS * 512)
        .map(|n| (n / 512 + n % 16) as u8)
        .collect();
    let host = file(&bytes);
    let path = format!("/proc/self/fd/{}", host.as_raw_fd());
    let opened = OpenOptions::new()
        .read(true)
        .write(!input.read_only)
        .open(path);
    let config = DiskConfig {
        read_only: input.read_only,
        serial: "root".into(),
    };
    let disk = Disk::new(opened.expect("the disk"), &config).expect("a good disk");
    let mut guest = Guest::new(Block::new(disk), 1);
    if let Some(len) = input.shrunk {
        let len = u64::from(len).min(SECTORS * 512);
        host.set_len(len).expect("a shorter file");
    }
    for step in input.steps.iter().take(100) {
        guest.step(step, request);
    }
    guest.restart(1);
    let good = Request {
        kind: 0,
        sector: 0,
        far: false,
        data: Vec::new(),
        status: None,
    };
    request(&mut guest, &good);
    assert!(guest.device.is_active(), "a good request breaks the device");

    let len = host.metadata().expect("the disk").len();
    assert!(len <= SECTORS * 512, "the disk has grown");
    if input.read_only {
        let mut after = vec![0; len as usize];
        host.read_exact_at(&mut after, 0).expect("the disk");
        assert!(
            after == bytes[..after.len()],
            "a read-only disk has changed"
        );
    }
});
