//! Words for the user: one line each, on standard error, beginning `casemate: `.

use std::io::Write;

/// Longest line, in characters: what a guest wrote may be part of it.
const MOST: usize = 2000;

/// Prints one line. A standard error that cannot be written to is nobody's to hear of.
pub fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "casemate: {}", plain(text.as_ref()));
}

/// The text on one line: control characters, among them a terminal's escape
/// sequences, become spaces.
pub fn plain(text: &str) -> String {
    let mut plain: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST)
        .collect();
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_one_line() {
        assert_eq!(plain("a\nb\x1b[31mc\r\n"), "a b [31mc");
        assert_eq!(plain("ü ok"), "ü ok");
        assert_eq!(plain(&"x".repeat(5000)).len(), MOST);
    }
}
