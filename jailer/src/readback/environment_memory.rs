//! What an exec to come will be given as environment, read from the memory of the process
//! that waits to make it (process_vm_readv(2)).

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;

/// Most variables, and most bytes of one; the kernel takes no longer ones (execve(2)).
const MOST_VARIABLES: usize = 4096;
const MOST_BYTES: usize = 128 << 10;

/// The variables at an array of pointers that ends with null, each with its null.
pub fn read(pid: i32, array: usize) -> Result<Vec<u8>, String> {
    let pid = Pid::from_raw(pid);
    let mut block = Vec::new();
    for at in 0..MOST_VARIABLES {
        let mut pointer = [0; size_of::<usize>()];
        let base = array + at * pointer.len();
        exact(pid, base, &mut pointer)?;
        match usize::from_ne_bytes(pointer) {
            0 => return Ok(block),
            text => string(pid, text, &mut block)?,
        }
    }
    Err("it has no end".to_owned())
}

/// Appends one C string, its null included.
fn string(pid: Pid, mut base: usize, block: &mut Vec<u8>) -> Result<(), String> {
    let limit = block.len() + MOST_BYTES;
    while block.len() < limit {
        // Never beyond the page, behind which there may be none.
        let mut part = vec![0; 4096 - base % 4096];
        exact(pid, base, &mut part)?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            block.extend_from_slice(&part[..=end]);
            return Ok(());
        }
        block.extend_from_slice(&part);
        base += part.len();
    }
    Err("a variable has no end".to_owned())
}

fn exact(pid: Pid, base: usize, to: &mut [u8]) -> Result<(), String> {
    let len = to.len();
    let remote = [RemoteIoVec { base, len }];
    match process_vm_readv(pid, &mut [IoSliceMut::new(to)], &remote) {
        Ok(read) if read == len => Ok(()),
        Ok(_) => Err("its memory ends".to_owned()),
        Err(e) => Err(format!("reading its memory: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Strings;

    #[test]
    fn our_own_is_read_as_it_is() {
        let variables = Strings::new(vec![c"A=1".to_owned(), c"B=2".to_owned()]);
        let pid = std::process::id() as i32;
        let block = read(pid, variables.as_ptr().addr()).unwrap();
        assert_eq!(block, b"A=1\0B=2\0");
        assert!(read(pid, 8).is_err());
    }
}
