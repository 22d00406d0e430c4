//! The key that signs the heads: ed25519 (RFC 8032), made on first use.
//!
//! The secret is read when something is to be signed and wiped right after, so that no
//! process that is forked in between (the jail's own first process among them) has it.

use crate::digest::{hex, unhex};
use crate::{AuditError, Digest, call};
use casemate_beneath::Dir;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rustix::fs::{OFlags, fstat, renameat};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The secret key's file in the key folder.
pub const SECRET: &str = "secret";
/// The same as long as the log has no line.
pub const SECRET_NEW: &str = "secret.new";
/// The public key's file beside it.
pub const PUBLIC: &str = "public";

/// Length of a key's file: 64 digits and a newline.
const TEXT: usize = 65;

/// A public key: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

/// Text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no public key of an audit log (64 lower-case hexadecimal digits)")]
pub struct NoKey;

impl FromStr for PublicKey {
    type Err = NoKey;
    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = unhex::<32>(text.trim_end()).ok_or(NoKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NoKey)?;
        match key.is_weak() {
            true => Err(NoKey),
            false => Ok(Self(key)),
        }
    }
}

/// The secret key. Wiped when dropped.
pub struct Secret {
    seed: Zeroizing<[u8; 32]>,
    /// Under which name it was found.
    new: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    #[cfg(test)]
    pub(crate) fn of_seed(seed: [u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            new: false,
        }
    }

    /// Reads the key of a log that has heads.
    ///
    /// # Errors
    /// [`AuditError::KeyLost`] where there is none.
    pub(crate) fn load(keys: &Dir) -> Result<Self, AuditError> {
        for (name, new) in [(SECRET, false), (SECRET_NEW, true)] {
            if let Some(seed) = read(keys, name)? {
                return Ok(Self { seed, new });
            }
        }
        Err(AuditError::KeyLost {
            path: keys.path().join(SECRET),
        })
    }

    /// The key of a log that begins: the one of a beginning that was interrupted, or a new one.
    ///
    /// # Errors
    /// [`AuditError::LogLost`] where the key has signed lines already.
    pub(crate) fn begin(keys: &Dir, log: &Dir) -> Result<Self, AuditError> {
        if read(keys, SECRET)?.is_some() {
            return Err(AuditError::LogLost {
                log: log.path().to_owned(),
                keys: keys.path().to_owned(),
            });
        }
        let seed = match read(keys, SECRET_NEW)? {
            Some(seed) => seed,
            None => make(keys)?,
        };
        let secret = Self { seed, new: true };
        let public = format!("{}\n", secret.public());
        keys.remove_file(PUBLIC)?;
        write(keys, PUBLIC, public.as_bytes())?;
        Ok(secret)
    }

    /// The log has a line now: from here on, a log that is gone is not begun anew.
    pub(crate) fn settle(&self, keys: &Dir) -> Result<(), AuditError> {
        if self.new {
            renameat(keys, SECRET_NEW, keys, SECRET)
                .map_err(|source| keys.failed("rename", OsStr::new(SECRET_NEW), source))?;
        }
        Ok(())
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(SigningKey::from_bytes(&self.seed).verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(&self.seed).sign(message).to_bytes()
    }

    /// A digest that only the holder of the key can make.
    pub(crate) fn seal(&self, bytes: &[u8]) -> Digest {
        let key = Zeroizing::new(blake3::derive_key("casemate audit 1 seal", &self.seed[..]));
        Digest::keyed(&key, bytes)
    }
}

/// `None` where there is no such file, or an empty one: a maker was interrupted.
fn read(keys: &Dir, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, AuditError> {
    let file = match keys.file(name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(e) if e.is_missing() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let bad = |found| AuditError::BadKey {
        path: keys.path().join(name),
        found,
    };
    let stat = fstat(&file).map_err(|e| keys.failed("stat", OsStr::new(name), e))?;
    if stat.st_mode & 0o077 != 0 {
        return Err(bad("readable for others than its owner: chmod 600"));
    }
    let mut text = Zeroizing::new([0; TEXT + 1]);
    let len = std::fs::File::from(file)
        .read(&mut text[..])
        .map_err(|e| call("read", keys, name, &e))?;
    if len == 0 {
        return Ok(None);
    }
    let digits = text[..len].strip_suffix(b"\n").unwrap_or_default();
    let seed = std::str::from_utf8(digits).ok().and_then(unhex);
    match seed {
        Some(seed) => Ok(Some(Zeroizing::new(seed))),
        None => Err(bad("no key of ours (64 lower-case hexadecimal digits)")),
    }
}

fn make(keys: &Dir) -> Result<Zeroizing<[u8; 32]>, AuditError> {
    let mut seed = Zeroizing::new([0; 32]);
    random(&mut seed[..])?;
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex(&seed[..]))));
    keys.remove_file(SECRET_NEW)?;
    write(keys, SECRET_NEW, text.as_bytes())?;
    Ok(seed)
}

fn write(keys: &Dir, name: &str, text: &[u8]) -> Result<(), AuditError> {
    let file = keys.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text)
        .and_then(|()| file.sync_all())
        .map_err(|e| call("write", keys, name, &e))
}

/// Fills `bytes` from the kernel's generator (getrandom(2)).
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), AuditError> {
    // Up to 256 bytes come whole and without interruption.
    match getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(len) if len == bytes.len() => Ok(()),
        Ok(_) => Err(AuditError::Random(rustix::io::Errno::IO)),
        Err(source) => Err(AuditError::Random(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folders() -> (tempfile::TempDir, Dir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let keys = Dir::top(&temp.path().join("keys")).unwrap();
        let log = Dir::top(&temp.path().join("log")).unwrap();
        (temp, keys, log)
    }

    #[test]
    fn a_key_is_made_once_and_roots_alone() {
        let (_temp, keys, log) = folders();
        let public = Secret::begin(&keys, &log).unwrap().public();
        let again = Secret::begin(&keys, &log).unwrap();
        assert_eq!(again.public(), public);
        again.settle(&keys).unwrap();
        assert_eq!(Secret::load(&keys).unwrap().public(), public);
        let mode = std::fs::metadata(keys.path().join(SECRET)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o7777, 0o600);
        let text = std::fs::read_to_string(keys.path().join(PUBLIC)).unwrap();
        assert_eq!(text.parse(), Ok(public));
        // It has signed: a log that begins now would hide that one is gone.
        let error = Secret::begin(&keys, &log).unwrap_err();
        assert!(matches!(error, AuditError::LogLost { .. }), "{error}");
    }

    #[test]
    fn a_key_that_was_cut_short_or_is_open_to_others_is_refused() {
        let (_temp, keys, log) = folders();
        let path = keys.path().join(SECRET_NEW);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Secret::begin(&keys, &log).unwrap();
        for text in ["abc\n", &"0".repeat(64), &format!("{}\n", "A".repeat(64))] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(
                Secret::load(&keys),
                Err(AuditError::BadKey { .. })
            ));
        }
        std::fs::write(&path, format!("{}\n", "a".repeat(64))).unwrap();
        Secret::load(&keys).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Secret::load(&keys).is_err());
    }

    #[test]
    fn weak_keys_are_no_keys() {
        for text in ["", "00", &"0".repeat(64), &format!("01{}", "0".repeat(62))] {
            assert_eq!(text.parse::<PublicKey>(), Err(NoKey));
        }
    }
}
