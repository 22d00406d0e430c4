//! Honest connections.

use super::super::packet::{NO_MORE_RECEIVE, NO_MORE_SEND, Op};
use super::guest::*;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8 ^ (n + seed) as u8)
        .collect()
}

#[test]
fn tells_the_cid() {
    let mut guest = Guest::new(1);
    assert_eq!(u64::from_le_bytes(guest.driver.config(0)), CID);
}

#[test]
fn carries_bytes_both_ways() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.data(1024, b"hello host");
    let mut bytes = [0; 10];
    guest.hosts[0].read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello host");
    guest.hosts[0].write_all(b"hello guest").unwrap();
    assert_eq!(guest.hear_data(1024, 11), b"hello guest");
}

#[test]
fn the_host_may_speak_first() {
    let mut guest = Guest::new(32);
    guest.hosts[1].write_all(b"early").unwrap();
    guest.connect(1025);
    assert_eq!(guest.hear_data(1025, 5), b"early");
}

#[test]
fn each_port_is_good_once() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    let again = super::super::packet::Header {
        src_port: MINE + 1,
        ..guest.header(Op::Request, 1024, 0)
    };
    guest.send(again, &[]);
    let (header, _) = guest.hear();
    assert_eq!((header.op, header.dst_port), (Op::Reset as u16, MINE + 1));
    guest.say(Op::Request, 99);
    guest.expect(Op::Reset, 99);
    // The first is none the worse.
    guest.data(1024, b"x");
    guest.hosts[0].read_exact(&mut [0]).unwrap();
}

#[test]
fn three_at_once() {
    let mut guest = Guest::new(32);
    for port in PORTS {
        guest.connect(port);
    }
    for (n, port) in PORTS.into_iter().enumerate() {
        guest.data(port, &pattern(5000, n));
    }
    for n in 0..3 {
        let mut bytes = vec![0; 5000];
        guest.hosts[n].read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, pattern(5000, n));
    }
}

/// More than all buffers together, through a host that reads when it likes.
#[test]
fn a_slow_host_holds_the_guest_up_and_loses_nothing() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    let all = pattern(4 << 20, 0);
    let mut host = guest.hosts[0].try_clone().unwrap();
    let expected = all.clone();
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut piece = vec![0; 100_000];
        while seen.len() < expected.len() {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let count = host.read(&mut piece).unwrap();
            assert_ne!(count, 0);
            seen.extend_from_slice(&piece[..count]);
        }
        assert!(seen == expected);
    });
    let (mut sent, mut taken) = (0, 0);
    while sent < all.len() {
        while let Some((header, _)) = guest.try_hear() {
            assert_eq!(header.op, Op::CreditUpdate as u16);
            taken = header.fwd_cnt as usize;
        }
        let credit = (256 << 10) - (sent - taken);
        let len = credit.min(64 << 10).min(all.len() - sent);
        if len == 0 {
            std::thread::yield_now();
            continue;
        }
        guest.data(1024, &all[sent..sent + len]);
        sent += len;
    }
    reader.join().unwrap();
}

#[test]
fn a_slow_guest_holds_the_host_up_and_loses_nothing() {
    let mut guest = Guest::new(32);
    guest.buf_alloc = 64 << 10;
    guest.connect(1024);
    let all = pattern(2 << 20, 1);
    let mut host = guest.hosts[0].try_clone().unwrap();
    let expected = all.clone();
    let writer = std::thread::spawn(move || {
        host.write_all(&expected).unwrap();
        host.shutdown(Shutdown::Write).unwrap();
    });
    let mut seen = Vec::new();
    let mut unacknowledged = 0;
    loop {
        let (header, payload) = guest.hear();
        match Op::of(header.op).unwrap() {
            Op::Data => {
                seen.extend_from_slice(&payload);
                unacknowledged += payload.len();
                assert!(unacknowledged <= 64 << 10, "more than we have room for");
            }
            Op::CreditRequest => {
                assert_eq!(unacknowledged, 64 << 10);
                guest.fwd_cnt = seen.len() as u32;
                unacknowledged = 0;
                guest.say(Op::CreditUpdate, 1024);
            }
            Op::Shutdown => break assert_eq!(header.flags, NO_MORE_SEND),
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    assert!(seen == all);
}

/// As `cat` behind pipes: one way ends while the other goes on.
#[test]
fn half_close_by_the_guest_then_the_host() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.data(1024, b"last words");
    guest.shutdown(1024, NO_MORE_SEND);
    let mut bytes = Vec::new();
    guest.hosts[0].read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last words");
    guest.hosts[0].write_all(b"answer").unwrap();
    assert_eq!(guest.hear_data(1024, 6), b"answer");
    guest.hosts[0].shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(Op::Shutdown, 1024).0.flags, NO_MORE_SEND);
    guest.expect(Op::Reset, 1024);
    guest.expect_silence();
}

#[test]
fn half_close_by_the_host_then_the_guest() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.hosts[0].write_all(b"input").unwrap();
    guest.hosts[0].shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.hear_data(1024, 5), b"input");
    assert_eq!(guest.expect(Op::Shutdown, 1024).0.flags, NO_MORE_SEND);
    guest.data(1024, b"output");
    // Linux's close().
    guest.shutdown(1024, NO_MORE_SEND | NO_MORE_RECEIVE);
    guest.expect(Op::Reset, 1024);
    let mut bytes = Vec::new();
    guest.hosts[0].read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"output");
}

/// All that was sent before the end arrives, though the host is slow.
#[test]
fn the_last_data_is_delivered_before_the_end() {
    for last in [
        |guest: &mut Guest| guest.shutdown(1024, NO_MORE_SEND),
        |guest: &mut Guest| guest.shutdown(1024, NO_MORE_SEND | NO_MORE_RECEIVE),
        |guest: &mut Guest| guest.say(Op::Reset, 1024),
    ] {
        let mut guest = Guest::new(32);
        guest.connect(1024);
        // The socket's own buffer is full, and so is most of ours.
        let (mut all, mut taken) = (Vec::new(), 0);
        loop {
            let piece = pattern(32 << 10, all.len());
            if all.len() - taken + piece.len() > 256 << 10 {
                break;
            }
            guest.data(1024, &piece);
            all.extend(piece);
            guest.driver.wait_used(1);
            guest.say(Op::CreditRequest, 1024);
            taken = guest.expect(Op::CreditUpdate, 1024).0.fwd_cnt as usize;
        }
        assert!(all.len() > taken + (100 << 10));
        last(&mut guest);
        let mut bytes = Vec::new();
        guest.hosts[0].read_to_end(&mut bytes).unwrap();
        assert!(bytes == all);
    }
}

#[test]
fn a_host_that_went_away_is_told_to_the_guest() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.connect(1025);
    guest.hosts[0].write_all(b"bye").unwrap();
    drop(guest.hosts.remove(0));
    let (header, payload) = guest.hear();
    // It no longer reads, and has said all it had to: in this or that order.
    let mut flags = header.flags;
    let mut seen = payload;
    while flags != NO_MORE_RECEIVE | NO_MORE_SEND || seen != b"bye" {
        let (header, payload) = guest.hear();
        flags |= header.flags;
        seen.extend(payload);
    }
    guest.data(1024, b"into the void");
    guest.shutdown(1024, NO_MORE_SEND | NO_MORE_RECEIVE);
    guest.expect(Op::Reset, 1024);
    guest.data(1025, b"x");
    guest.hosts[0].read_exact(&mut [0]).unwrap();
}

#[test]
fn a_host_that_stops_reading_is_told_to_the_guest() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.hosts[0].shutdown(Shutdown::Read).unwrap();
    guest.data(1024, b"anybody?");
    assert_eq!(guest.expect(Op::Shutdown, 1024).0.flags, NO_MORE_RECEIVE);
    guest.hosts[0].write_all(b"I only talk").unwrap();
    assert_eq!(guest.hear_data(1024, 11), b"I only talk");
}

#[test]
fn a_guest_that_stops_reading_is_told_to_the_host() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.shutdown(1024, NO_MORE_RECEIVE);
    guest.data(1024, b"x");
    guest.hosts[0].read_exact(&mut [0]).unwrap();
    assert_eq!(
        guest.hosts[0].write(b"y").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn credit_is_told_in_time() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    let mut host = guest.hosts[0].try_clone().unwrap();
    for _ in 0..4 {
        guest.data(1024, &[7; 16 << 10]);
        host.read_exact(&mut [0; 16 << 10]).unwrap();
    }
    let (header, _) = guest.expect(Op::CreditUpdate, 1024);
    assert_eq!((header.fwd_cnt, header.buf_alloc), (64 << 10, 256 << 10));
    guest.data(1024, b"x");
    guest.say(Op::CreditRequest, 1024);
    assert_eq!(
        guest.expect(Op::CreditUpdate, 1024).0.fwd_cnt,
        (64 << 10) + 1
    );
}

/// No receive buffers: nothing is lost, nothing spins; all comes when they come.
#[test]
fn waits_for_receive_buffers() {
    let mut guest = Guest::new(0);
    for port in 2000..2100 {
        guest.say(Op::Request, port);
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    let used = (0..).find(|_| guest.driver.used(1).is_none()).unwrap();
    assert!(used < 100, "refusals are bounded: {used} were taken");
    (0..32).for_each(|n| guest.post(RX_AREA + n * u64::from(RX_BUFFER)));
    for port in 2000..2100 {
        guest.expect(Op::Reset, port);
    }
}

#[test]
fn reset_ends_the_connections() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.data(1024, b"delivered");
    guest.driver.wait_used(1);
    guest.driver.set(0x70, 0);
    let mut bytes = Vec::new();
    guest.hosts[0].read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"delivered");
    assert!(guest.hosts[0].write(b"y").is_err());
}

/// Whatever state a connection waits in, waiting costs nothing.
#[test]
fn idle_connections_sleep() {
    // The guest has no room, and the host has hung up behind its data.
    let mut guest = Guest::new(32);
    guest.buf_alloc = 4;
    guest.connect(1024);
    guest.hosts[0].write_all(b"too much").unwrap();
    drop(guest.hosts.remove(0));
    // The host does not read.
    guest.say(Op::Request, 1025);
    for _ in 0..5 {
        guest.data(1025, &[0; 50_000]);
    }
    // The guest has ended.
    guest.say(Op::Request, 1026);
    guest.shutdown(1026, NO_MORE_SEND);
    guest.driver.assert_asleep();
    // No buffers to answer into.
    let mut guest = Guest::new(0);
    (2000..2080).for_each(|port| guest.say(Op::Request, port));
    guest.driver.assert_asleep();
    guest.driver.offer(0, &[(RX_AREA, RX_BUFFER, true)]);
    guest.driver.set(0x70, 0);
    guest.driver.kick(1);
    guest.driver.assert_asleep();
}
