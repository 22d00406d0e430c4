//! Keyrings (keyrings(7)): the launcher's session keyring has a key with the token.

use super::attempt;
use crate::sys::{reached, text, token};
use crate::{Attempt, Bait, Tried, bait, call};

const SESSION: i32 = -3;
const USER: i32 = -4;
const JOIN_SESSION: i32 = 1;
const SEARCH: i32 = 10;
const READ: i32 = 11;
const DESCRIBE: i32 = 6;

pub const ALL: &[Attempt] = &[
    attempt(
        "session-key-read",
        "read a key of the launcher's session keyring",
        |bait| {
            let (kind, name) = (text(bait::KEY.0), text(bait::KEY.1));
            let key = call!(
                libc::SYS_keyctl,
                SEARCH,
                SESSION,
                kind.as_c_str(),
                name.as_c_str(),
                0
            )?;
            read(bait, key)
        },
    ),
    attempt("session-key-request", "the same, by request_key", |bait| {
        let (kind, name) = (text(bait::KEY.0), text(bait::KEY.1));
        let key = call!(
            libc::SYS_request_key,
            kind.as_c_str(),
            name.as_c_str(),
            0,
            0
        )?;
        read(bait, key)
    }),
    attempt(
        "session-key-listed",
        "see the launcher's keys in /proc/keys",
        |_| {
            let keys = std::fs::read_to_string("/proc/keys")?;
            match keys.contains(bait::KEY.1) {
                true => Ok("it is listed".to_owned()),
                false => Err(crate::Failure::Nothing("it is not listed".to_owned())),
            }
        },
    ),
    attempt("add-key", "add a key to a keyring of the kernel's", |_| {
        let (kind, name) = (text("user"), text("escape"));
        reached(
            call!(
                libc::SYS_add_key,
                kind.as_c_str(),
                name.as_c_str(),
                &b"x"[..],
                1,
                SESSION
            ),
            &[],
        )
    }),
    attempt("user-keyring", "look at its user's keyring", |_| {
        reached(call!(libc::SYS_keyctl, DESCRIBE, USER, 0, 0), &[])
    }),
    attempt("new-session-keyring", "make a session keyring", |_| {
        reached(call!(libc::SYS_keyctl, JOIN_SESSION, 0), &[])
    }),
];

fn read(bait: &Bait, key: i64) -> Tried {
    let mut bytes = [0; 256];
    let n = call!(libc::SYS_keyctl, READ, key, &mut bytes[..], 256)?;
    token(bait, &bytes[..(n as usize).min(256)])
}
