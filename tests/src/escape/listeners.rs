//! Sockets of the host's that answer whoever reaches them with the token.

use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread;

/// Where they are. Their threads end with this process.
#[derive(Debug)]
pub struct Listeners {
    /// Port of 127.0.0.1.
    pub tcp: u16,
    /// Port of 127.0.0.1.
    pub udp: u16,
    /// Abstract name.
    pub name: String,
}

impl Listeners {
    /// Starts them; one is at `path`.
    pub fn start(path: &Path, token: &str) -> io::Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let name = format!("casemate-escape-{token}");
        let listeners = Self {
            tcp: tcp.local_addr()?.port(),
            udp: udp.local_addr()?.port(),
            name: name.clone(),
        };
        let by_path = UnixListener::bind(path)?;
        let by_name = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let answer = token.to_owned();
        thread::spawn(move || each(|| tcp.accept().map(|(stream, _)| stream), &answer));
        for socket in [by_path, by_name] {
            let answer = token.to_owned();
            thread::spawn(move || each(|| socket.accept().map(|(stream, _)| stream), &answer));
        }
        let answer = token.to_owned();
        thread::spawn(move || {
            let mut bytes = [0; 16];
            while let Ok((_, from)) = udp.recv_from(&mut bytes) {
                let _ = udp.send_to(answer.as_bytes(), from);
            }
        });
        Ok(listeners)
    }
}

fn each<S: Write>(mut accept: impl FnMut() -> io::Result<S>, answer: &str) {
    while let Ok(mut stream) = accept() {
        let _ = stream.write_all(answer.as_bytes());
    }
}
