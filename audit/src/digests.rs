//! Digests of binaries, remembered.
//!
//! A digest says what ran; a build id only what the binary says of itself. But to hash
//! some megabytes takes longer than a whole start. So the digest of a file is kept with
//! its device, inode, size and both its times, of which nobody can set back the second
//! (`ctime`) without setting the clock: a file written to since has another. An entry is
//! sealed with the log's key, so that one placed here by others does not count.

use crate::key::Secret;
use crate::{AuditError, Digest, call};
use casemate_beneath::Dir;
use rustix::fs::{FlockOperation, OFlags, Stat, flock, fstat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The cache's name in the key folder.
const FILE: &str = "digests";
/// Most entries, the latest first.
const MOST: usize = 64;
/// Longest cache that is read.
const MAX_BYTES: u64 = 64 << 10;
/// A file changed less than this ago may be changed again without its times showing it:
/// they go by the clock's tick.
const SETTLED: Duration = Duration::from_secs(1);

/// The digest of the file at `fd`, which may be open with `O_PATH`.
pub(crate) fn of(keys: &Dir, secret: &Secret, fd: BorrowedFd<'_>) -> Result<Digest, AuditError> {
    let failed =
        |e: Errno| AuditError::from(keys.failed("look at a binary for", OsStr::new(FILE), e));
    let identity = identity(&fstat(fd).map_err(failed)?);
    let cache = keys.file(FILE, OFlags::RDWR | OFlags::CREATE)?;
    let cache = File::from(cache);
    let known = read(&cache).map_err(|e| call("read", keys, FILE, &e))?;
    if let Some(digest) = known
        .lines()
        .find_map(|line| recall(line, &identity, secret))
    {
        return Ok(digest);
    }
    let digest = hash(fd).map_err(|e| call("read a binary for", keys, FILE, &e))?;
    let after = fstat(fd).map_err(failed)?;
    if self::identity(&after) == identity && is_settled(&after) {
        // A cache that cannot be written costs time, and nothing else.
        let _ = remember(&cache, &known, &identity, digest, secret);
    }
    Ok(digest)
}

fn identity(stat: &Stat) -> String {
    format!(
        "{} {} {} {}.{:09} {}.{:09}",
        stat.st_dev,
        stat.st_ino,
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec
    )
}

fn is_settled(stat: &Stat) -> bool {
    let changed = Duration::new(stat.st_ctime.max(0) as u64, stat.st_ctime_nsec as u32);
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|now| now >= changed + SETTLED)
}

fn read(cache: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    cache.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The digest of a line `IDENTITY DIGEST SEAL`, if it is of this file and ours.
fn recall(line: &str, identity: &str, secret: &Secret) -> Option<Digest> {
    let rest = line.strip_prefix(identity)?;
    let (digest, seal) = rest.strip_prefix(' ')?.split_once(' ')?;
    let digest: Digest = digest.parse().ok()?;
    (entry(identity, digest, secret) == format!("{identity} {digest} {seal}")).then_some(digest)
}

fn entry(identity: &str, digest: Digest, secret: &Secret) -> String {
    let words = format!("{identity} {digest}");
    let seal = secret.seal(format!("binary {words}").as_bytes());
    format!("{words} {seal}")
}

/// Writes the cache anew. A reader in between, or after a kill, finds lines missing or
/// cut, which then do not count.
fn remember(
    cache: &File,
    known: &str,
    identity: &str,
    digest: Digest,
    secret: &Secret,
) -> io::Result<()> {
    flock(cache, FlockOperation::NonBlockingLockExclusive)?;
    let mut text = entry(identity, digest, secret) + "\n";
    for line in known.lines().take(MOST - 1) {
        text.push_str(line);
        text.push('\n');
    }
    cache.write_all_at(text.as_bytes(), 0)?;
    cache.set_len(text.len() as u64)
}

fn hash(fd: BorrowedFd<'_>) -> io::Result<Digest> {
    // Anew, since `fd` may be one that cannot be read, or may be at its end.
    let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        match file.read_at(&mut part, at)? {
            0 => return Ok(hasher.finalize().into()),
            len => {
                hasher.update(&part[..len]);
                at += len as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, open};
    use std::os::fd::AsFd;

    #[test]
    fn a_digest_is_recalled_until_the_file_is_changed() {
        let temp = tempfile::tempdir().unwrap();
        let keys = Dir::top(&temp.path().join("keys")).unwrap();
        let secret = Secret::of_seed([1; 32]);
        let path = temp.path().join("binary");
        std::fs::write(&path, "one").unwrap();
        let fd = open(&path, OFlags::PATH, Mode::empty()).unwrap();
        let cache = keys.path().join(FILE);
        let look = || of(&keys, &secret, fd.as_fd()).unwrap();

        assert_eq!(look(), Digest::of(b"one"));
        // It was changed a moment ago: not kept yet.
        assert_eq!(std::fs::read_to_string(&cache).unwrap(), "");
        std::thread::sleep(SETTLED);
        assert_eq!(look(), Digest::of(b"one"));
        assert_eq!(std::fs::read_to_string(&cache).unwrap().lines().count(), 1);
        assert_eq!(look(), Digest::of(b"one"));

        // Same size, and its first time set back: the second tells.
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, "two").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(before)
            .unwrap();
        assert_eq!(look(), Digest::of(b"two"));
    }

    #[test]
    fn an_entry_of_others_does_not_count() {
        let temp = tempfile::tempdir().unwrap();
        let keys = Dir::top(&temp.path().join("keys")).unwrap();
        let path = temp.path().join("binary");
        std::fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        let identity = identity(&fstat(&file).unwrap());
        let forged = entry(&identity, Digest::of(b"other"), &Secret::of_seed([2; 32]));
        std::fs::write(keys.path().join(FILE), forged + "\nnoise\n").unwrap();
        let secret = Secret::of_seed([1; 32]);
        assert_eq!(
            of(&keys, &secret, file.as_fd()).unwrap(),
            Digest::of(b"one")
        );
    }
}
