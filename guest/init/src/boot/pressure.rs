//! What happens when memory runs out: the program is killed, soon, and the
//! init lives to tell.

use std::fs::write;

/// Exempts the init from the OOM killer, and has the kernel call it instead of
/// reading the program's own pages from disk again and again (kernel
/// documentation, admin-guide/mm/multigen_lru, "Thrashing prevention"). Without
/// that, a guest that allocates without end can stand still for minutes.
pub fn prepare() {
    for (file, value) in [
        ("/proc/self/oom_score_adj", "-1000"),
        ("/sys/kernel/mm/lru_gen/min_ttl_ms", "1000"),
    ] {
        // A kernel without the file lacks the feature, and a guest works without it.
        let _ = write(file, value);
    }
}
