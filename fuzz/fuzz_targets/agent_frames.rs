//! What a guest can put into the agent's control stream: read by the CLI, as root.
#![no_main]

use casemate_proto::agent::{FromInit, MAX_FROM_INIT, encode, read_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    while let Ok(Some(message)) = read_frame::<FromInit>(&mut stream, MAX_FROM_INIT) {
        // What decodes must encode again, within the same limit and to the same meaning.
        let again = encode(&message, MAX_FROM_INIT).expect("a decoded message encodes");
        let mut again = again.as_slice();
        assert_eq!(
            read_frame::<FromInit>(&mut again, MAX_FROM_INIT).expect("it decodes again"),
            Some(message)
        );
    }
});
