//! The entropy device: what a guest puts into its queue.
#![no_main]

use arbitrary::Arbitrary;
use casemate_fuzz::guest::{Guest, Step};
use casemate_vmm::virtio::entropy::Entropy;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Clone, Arbitrary)]
struct Nothing;

fuzz_target!(|steps: Vec<Step<Nothing>>| {
    let mut guest = Guest::new(Entropy::new(), 1);
    for step in steps.iter().take(200) {
        guest.step(step, |guest, Nothing| guest.kick(0));
    }
    // After whatever that was, a reset makes it all good.
    guest.restart(1);
    guest.chain(0, &[(0x3_0000, 64, true)]);
    guest.kick(0);
    assert!(guest.device.is_active(), "a good request breaks the device");
});
