//! Subordinate ids (subuid(5), subgid(5)): those that root lets a user have beside its own.

use super::Ids;
use crate::refusal::Refusal;
use crate::state::Identity;
use casemate_proto::cell::Layer;
use rustix::thread::no_new_privs;
use serde::{Deserialize, Serialize};

const USERS: &str = "/etc/subuid";
const GROUPS: &str = "/etc/subgid";

/// A range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubIds {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl SubIds {
    /// The upper half of it: programs that make whole containers of a range begin below.
    fn upper_half(self) -> Self {
        let below = self.count / 2;
        Self {
            first: self.first + below,
            count: self.count - below,
        }
    }
}

/// The ids for the jails of a user.
///
/// # Errors
/// Where it has none, or could not use them.
pub fn range(launcher: Identity) -> Result<Ids, Refusal> {
    if no_new_privs().unwrap_or(false) {
        return Err(Refusal::of(
            Layer::User,
            "--id-map range needs newuidmap, which gets no rights under no_new_privs, and this \
             program was started under it: start it without, or with --id-map single",
        ));
    }
    let passwd = crate::read::text("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, launcher.uid);
    let of = |file: &'static str| {
        let text = crate::read::text(file).map_err(|e| missing(launcher, file, &e.to_string()))?;
        largest(&text, launcher.uid, name)
            .map(SubIds::upper_half)
            .ok_or_else(|| missing(launcher, file, "it has no line for that user"))
    };
    Ok(Ids::Range {
        users: of(USERS)?,
        groups: of(GROUPS)?,
    })
}

fn missing(launcher: Identity, file: &str, why: &str) -> Refusal {
    Refusal::of(
        Layer::User,
        format!(
            "{file} gives uid {} no subordinate ids ({why}): have root add some (usermod \
             --add-subuids 100000-165535 --add-subgids 100000-165535 USER), or leave --id-map \
             range out",
            launcher.uid
        ),
    )
}

/// A user's name, which is what most lines of [`USERS`] go by (passwd(5)).
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The largest range of a user: lines `NAME-OR-UID:FIRST:COUNT`. Never one with the host's 0.
fn largest(text: &str, uid: u32, name: Option<&str>) -> Option<SubIds> {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if owner != uid && Some(owner) != name {
                return None;
            }
            let first = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            let last = u32::checked_add(first, count.checked_sub(1)?)?;
            // The last of all is no id (setresuid(2) takes it for "as it is").
            (first > 0 && last < u32::MAX).then_some(SubIds { first, count })
        })
        .max_by_key(|range| range.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_range_is_found_by_name_or_number() {
        let text = "other:1:1\nme:100000:65536\n1234:300000:70000\nme:5:0\nme:x:1\nme:0:99999\n";
        let found = |uid, name| largest(text, uid, name).map(|range| (range.first, range.count));
        assert_eq!(found(7, Some("me")), Some((100_000, 65536)));
        assert_eq!(found(1234, Some("me")), Some((300_000, 70000)));
        assert_eq!(found(7, Some("nobody")), None);
        assert_eq!(found(7, None), None);
        let half = largest(text, 7, Some("me")).unwrap().upper_half();
        assert_eq!((half.first, half.count), (132_768, 32768));
        let one = SubIds { first: 9, count: 1 };
        assert_eq!(one.upper_half(), one);
    }

    #[test]
    fn a_name_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nme:x:7:8::/:\nbroken\n";
        assert_eq!(name_of(passwd, 7), Some("me"));
        assert_eq!(name_of(passwd, 8), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,200}", uid: u32) {
            if let Some(range) = largest(&text, uid, Some("me")) {
                let half = range.upper_half();
                prop_assert!(half.first > 0 && half.count > 0);
            }
            let _ = name_of(&text, uid);
        }
    }
}
