//! What a VMM that a guest has taken over can say to its supervisor, which is root.
#![no_main]

use casemate_proto::control::FromVmm;
use casemate_proto::fds::FdKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = serde_json::from_slice::<FromVmm>(bytes) {
        let text = serde_json::to_vec(&message).expect("a decoded message encodes");
        assert_eq!(
            serde_json::from_slice::<FromVmm>(&text).expect("again"),
            message
        );
    }
    if let Ok(link) = std::str::from_utf8(bytes) {
        for fd in 0..80 {
            let _ = FdKind::of_link(fd, link);
        }
    }
});
