//! Checks that a test switches off one at a time, so that it can be seen that an
//! attack on the VMM without that check is noticed.
//!
//! Only with the feature `mutation`, which only tests build: without it
//! [`unless_off!`] is its condition and nothing else.

#[cfg(all(feature = "mutation", not(debug_assertions)))]
compile_error!("the feature `mutation` switches checks off: it is for debug builds of tests only");

/// The condition; with the feature `mutation`, and `name` in `--mutate=NAME,…` as the
/// program's first argument, false.
macro_rules! unless_off {
    ($name:literal, $condition:expr) => {{
        #[cfg(feature = "mutation")]
        {
            !$crate::unless_off::is_off($name) && $condition
        }
        #[cfg(not(feature = "mutation"))]
        {
            $condition
        }
    }};
}
pub(crate) use unless_off;

/// Whether the check of this name is switched off.
#[cfg(feature = "mutation")]
pub fn is_off(name: &str) -> bool {
    use std::sync::OnceLock;
    static OFF: OnceLock<Vec<String>> = OnceLock::new();
    let off = OFF.get_or_init(|| {
        let argument = std::env::args().nth(1).unwrap_or_default();
        let names = argument.strip_prefix("--mutate=").unwrap_or_default();
        names.split(',').map(str::to_owned).collect()
    });
    off.iter().any(|other| other == name)
}
