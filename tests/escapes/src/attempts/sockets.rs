//! Sockets of the host's, its network, and kinds of sockets nobody asked for.

use super::attempt;
use crate::sys::{owned, reached, token};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(300);

pub const ALL: &[Attempt] = &[
    attempt(
        "abstract-socket",
        "connect to an abstract socket of the host's",
        |bait| {
            let address = SocketAddr::from_abstract_name(&bait.abstract_socket)?;
            answer(bait, UnixStream::connect_addr(&address)?)
        },
    ),
    attempt(
        "path-socket",
        "connect to a socket of the host's by its path",
        |bait| answer(bait, UnixStream::connect(&bait.path_socket)?),
    ),
    attempt(
        "tcp-loopback",
        "connect to a TCP port of the host's loopback",
        |bait| {
            let mut stream = TcpStream::connect(("127.0.0.1", bait.tcp))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut bytes = vec![0; 256];
            let n = stream.read(&mut bytes)?;
            token(bait, &bytes[..n])
        },
    ),
    attempt(
        "udp-loopback",
        "send to a UDP port of the host's loopback",
        |bait| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(b"?", ("127.0.0.1", bait.udp))?;
            let mut bytes = vec![0; 256];
            let n = socket.recv(&mut bytes)?;
            token(bait, &bytes[..n])
        },
    ),
    attempt(
        "host-interfaces",
        "see a network interface of the host's",
        interfaces,
    ),
    attempt("raw-socket", "open a raw socket", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    attempt("packet-socket", "open a packet socket", |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)
    }),
    attempt(
        "netlink-route",
        "open a netlink socket to the routing tables",
        |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
    ),
    attempt(
        "netlink-netfilter",
        "open a netlink socket to the packet filter",
        |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
    ),
    attempt(
        "netlink-audit",
        "open a netlink socket to the kernel's audit",
        |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
    ),
    attempt(
        "netlink-uevent",
        "open a netlink socket to the kernel's events",
        |_| {
            socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW,
                libc::NETLINK_KOBJECT_UEVENT,
            )
        },
    ),
    attempt("vsock", "open a vsock socket", |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    }),
    attempt(
        "socket-families",
        "open a socket of any other family",
        families,
    ),
];

fn answer(bait: &Bait, mut stream: UnixStream) -> Tried {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; 256];
    let n = stream.read(&mut bytes)?;
    token(bait, &bytes[..n])
}

fn socket(family: i32, kind: i32, protocol: i32) -> Tried {
    reached(
        call!(
            libc::SYS_socket,
            family,
            kind | libc::SOCK_CLOEXEC,
            protocol
        ),
        &[],
    )
}

/// Asks each interface of the host's for its index (netdevice(7)).
fn interfaces(bait: &Bait) -> Tried {
    if bait.interfaces.is_empty() {
        return Err(Failure::Absent("the host has the loopback only".to_owned()));
    }
    let socket = owned(call!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0)?);
    crate::sys::any(bait.interfaces.iter().map(|name| {
        let mut request = [0u8; 40];
        let len = name.len().min(15);
        request[..len].copy_from_slice(&name.as_bytes()[..len]);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        call!(libc::SYS_ioctl, fd, 0x8933, &mut request[..])?;
        Ok(format!("{name} is there"))
    }))
}

/// All but unix, IP and netlink sockets, which have attempts of their own.
fn families(_: &Bait) -> Tried {
    let own = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
        libc::AF_PACKET,
        libc::AF_VSOCK,
    ];
    let kinds = [
        libc::SOCK_STREAM,
        libc::SOCK_DGRAM,
        libc::SOCK_RAW,
        libc::SOCK_SEQPACKET,
    ];
    let mut last = libc::EAFNOSUPPORT;
    for family in (3..46).filter(|family| !own.contains(family)) {
        for kind in kinds {
            match call!(libc::SYS_socket, family, kind, 0) {
                Ok(_) => return Ok(format!("family {family}")),
                Err(e) => {
                    let errno = e.raw_os_error().unwrap_or(0);
                    let unknown = [
                        libc::EAFNOSUPPORT,
                        libc::ESOCKTNOSUPPORT,
                        libc::EPROTONOSUPPORT,
                    ];
                    if !unknown.contains(&errno) {
                        last = errno;
                    }
                }
            }
        }
    }
    Err(Failure::Errno(last))
}
