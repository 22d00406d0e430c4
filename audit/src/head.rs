//! The signed head: where the log ends.
//!
//! The file has two slots of [`SLOT`] bytes, one line of text each: `JSON SEAL SIGNATURE`,
//! filled up with spaces. Before a batch of lines is appended, the second slot (the intent)
//! says where it will end; once it is appended, the first (the commitment) is made the same.
//! So both are equal while nobody writes, and a writer that was killed has left either
//! the old end, or a log that ends somewhere on the way to the intended one.

use crate::digest::{hex, unhex};
use crate::key::{PublicKey, Secret};
use crate::{Digest, clock};
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;
use thiserror::Error;

/// Size of a slot, newline included.
pub const SLOT: usize = 1024;

/// What is signed begins with this, so that a signature cannot be one of something else.
const CONTEXT: &str = "casemate audit head 1\n";

/// An end of the log: after which line, and where in which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Number of the file; 0 for a log without lines.
    pub file: u64,
    /// Bytes of that file up to here.
    pub offset: u64,
    /// Number of the last line.
    pub seq: u64,
    /// Its digest.
    pub hash: Digest,
}

impl Place {
    /// Where a log begins.
    pub const START: Self = Self {
        file: 0,
        offset: 0,
        seq: 0,
        hash: Digest::ZERO,
    };
}

/// What one slot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Version of the format.
    pub version: u32,
    /// The log's own random name.
    pub log: String,
    /// During which boot it was written.
    pub boot: String,
    /// When.
    pub time: String,
    /// Where the log ended before the batch.
    pub from: Place,
    /// Where in the file `to.file` the batch begins: later than `from` where a writer was
    /// interrupted before.
    pub at: u64,
    /// Where it ends.
    pub to: Place,
}

impl Head {
    /// A head of now.
    pub(crate) fn new(log: &str, from: Place, at: u64, to: Place) -> Self {
        Self {
            version: crate::VERSION,
            log: log.to_owned(),
            boot: clock::boot_id(),
            time: clock::utc(SystemTime::now()),
            from,
            at,
            to,
        }
    }
}

/// Why a slot says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SlotError {
    /// It is not written as slots are.
    #[error("it is not written as a head is")]
    Malformed,
    /// Another version.
    #[error("it is of version {0}, and this program knows {version}", version = crate::VERSION)]
    Version(u32),
    /// Signed by somebody else, or changed.
    #[error("its signature is not of this key: it was changed, or this is the wrong key")]
    Signature,
}

/// One slot, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What it says.
    pub head: Head,
    json: String,
    seal: Digest,
    signature: [u8; 64],
}

impl Slot {
    /// Signs and seals a head. The seal is for the next writer, who has the secret and need
    /// not check the signature, which takes sixty times as long; the signature is for
    /// everybody else, and covers the seal too.
    pub(crate) fn sign(head: Head, secret: &Secret) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_string(&head)?;
        let seal = secret.seal(json.as_bytes());
        let signature = secret.sign(signed(&json, &seal).as_bytes());
        Ok(Self {
            head,
            json,
            seal,
            signature,
        })
    }

    /// Takes a slot apart, and believes nothing yet.
    ///
    /// # Errors
    /// [`SlotError::Malformed`] where it is written in any other way than the one.
    pub fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SlotError::Malformed)?;
        let mut words = text.trim_end().rsplitn(3, ' ');
        let mut word = || words.next().ok_or(SlotError::Malformed);
        let (signature, seal, json) = (word()?, word()?, word()?);
        let head: Head = serde_json::from_str(json).map_err(|_| SlotError::Malformed)?;
        let slot = Self {
            head,
            json: json.to_owned(),
            seal: seal.parse().map_err(|_| SlotError::Malformed)?,
            signature: unhex(signature).ok_or(SlotError::Malformed)?,
        };
        match slot.bytes() == bytes {
            true if slot.head.version == crate::VERSION => Ok(slot),
            true => Err(SlotError::Version(slot.head.version)),
            false => Err(SlotError::Malformed),
        }
    }

    /// Whether the holder of the secret made it; for that holder.
    pub(crate) fn is_sealed(&self, secret: &Secret) -> bool {
        secret.seal(self.json.as_bytes()) == self.seal
    }

    /// Whether it is signed by the secret half of `key`.
    ///
    /// # Errors
    /// [`SlotError::Signature`] if not.
    pub fn check(&self, key: &PublicKey) -> Result<(), SlotError> {
        let message = signed(&self.json, &self.seal);
        match key.verifies(message.as_bytes(), &Signature::from_bytes(&self.signature)) {
            true => Ok(()),
            false => Err(SlotError::Signature),
        }
    }

    /// As it stands in the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} {}", self.json, self.seal, hex(&self.signature)).into_bytes();
        bytes.resize(bytes.len().max(SLOT - 1), b' ');
        bytes.push(b'\n');
        bytes
    }
}

fn signed(json: &str, seal: &Digest) -> String {
    format!("{CONTEXT}{json} {seal}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        let to = Place {
            file: u64::MAX,
            offset: u64::MAX,
            seq: u64::MAX,
            hash: Digest::of(b"x"),
        };
        Head::new(&"f".repeat(32), to, u64::MAX, to)
    }

    #[test]
    fn the_longest_head_fits_its_slot() {
        let slot = Slot::sign(head(), &Secret::of_seed([1; 32])).unwrap();
        assert_eq!(slot.bytes().len(), SLOT);
        assert_eq!(Slot::parse(&slot.bytes()), Ok(slot));
    }

    #[test]
    fn a_head_of_another_key_is_told() {
        let (ours, others) = (Secret::of_seed([1; 32]), Secret::of_seed([2; 32]));
        let slot = Slot::sign(head(), &ours).unwrap();
        assert!(slot.is_sealed(&ours) && !slot.is_sealed(&others));
        assert_eq!(slot.check(&ours.public()), Ok(()));
        assert_eq!(slot.check(&others.public()), Err(SlotError::Signature));
    }

    #[test]
    fn a_head_of_another_version_is_told() {
        let mut head = head();
        head.version = 2;
        let slot = Slot::sign(head, &Secret::of_seed([1; 32])).unwrap();
        assert_eq!(Slot::parse(&slot.bytes()), Err(SlotError::Version(2)));
    }

    proptest! {
        #[test]
        fn no_byte_of_a_slot_can_be_changed(at in 0..SLOT, change in 1u8..) {
            let secret = Secret::of_seed([1; 32]);
            let mut bytes = Slot::sign(head(), &secret).unwrap().bytes();
            bytes[at] ^= change;
            let good = Slot::parse(&bytes).is_ok_and(|slot| slot.check(&secret.public()).is_ok());
            prop_assert!(!good);
        }

        #[test]
        fn anything_can_be_parsed(bytes: Vec<u8>) {
            let _ = Slot::parse(&bytes);
        }
    }
}
