//! A policy in words: what the program under it can still do to the host.

use super::facts::{self, Fact};
use super::groups::Group;
use casemate_policy_compiler::{Action, AnyPolicy, CompiledPolicy, Rule, errno_name};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The whole explanation.
pub fn words(name: &str, policy: &AnyPolicy) -> String {
    let mut text = String::new();
    match policy {
        AnyPolicy::Rules(rules) => {
            _ = writeln!(
                text,
                "A thread under {name} can do this and nothing else:\n"
            );
            calls(&mut text, &rules.rules);
        }
        AnyPolicy::Whole(whole) => whole_policy(&mut text, name, whole),
    }
    text
}

fn whole_policy(text: &mut String, name: &str, whole: &CompiledPolicy) {
    _ = writeln!(text, "A program under {name} can do this and nothing else.");
    if !whole.bases.is_empty() {
        _ = writeln!(text, "It narrows {}.", whole.bases.join(", which narrows "));
    }
    _ = writeln!(
        text,
        "Digest of all that is enforced: {}\n",
        whole.policy.digest
    );
    let mut section = "";
    for Fact {
        section: of,
        subject,
        state,
    } in facts::of(&whole.policy)
    {
        if of != section {
            section = of;
            _ = writeln!(text, "{}:", title(section));
            for why in whole.whys.iter().filter(|why| belongs(&why.what, section)) {
                _ = writeln!(text, "    ({} [{}])", why.why, why.at);
            }
        }
        let why = whole
            .whys
            .iter()
            .find(|why| why.what == format!("mount {subject}"));
        let why = why.map_or(String::new(), |why| format!("  ({} [{}])", why.why, why.at));
        _ = writeln!(text, "  {subject}: {state}{why}");
    }
    text.push('\n');
    if whole.threads.is_empty() {
        text.push_str("System calls; every other one kills the process:\n\n");
        calls(text, &whole.rules);
    }
    for (thread, rules) in &whole.threads {
        _ = writeln!(
            text,
            "Thread class {thread}; every other call kills the process:\n"
        );
        calls(text, &rules.rules);
    }
}

fn title(section: &str) -> String {
    let mut letters = section.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// Whether a section of the file is told in this section of the explanation.
fn belongs(what: &str, section: &str) -> bool {
    match section {
        "files" => what == "filesystem",
        "network" => what == "network" || what == "landlock",
        "rights" => what == "capabilities",
        "limits" => ["rlimits", "cgroup", "wall-clock"].contains(&what) || what.starts_with("I/O"),
        "inherited" => ["environment", "fds"].contains(&what),
        other => what == other,
    }
}

/// The rules, by what they are about; those that stand in one rule of the file together.
fn calls(text: &mut String, rules: &[Rule]) {
    for group in Group::ALL {
        let mut entries: Vec<(String, &Rule, Vec<String>)> = Vec::new();
        for rule in rules
            .iter()
            .filter(|rule| Group::of(rule.call.name) == group)
        {
            let place = format!("{} {:?}", rule.at, rule.action);
            match entries.iter_mut().find(|(key, ..)| *key == place) {
                Some((_, _, forms)) => forms.push(rule.to_string()),
                None => entries.push((place, rule, vec![rule.to_string()])),
            }
        }
        if entries.is_empty() {
            continue;
        }
        _ = writeln!(text, "{}:", group.title());
        for (_, rule, forms) in entries {
            let answer = match rule.action {
                Action::Allow => String::new(),
                Action::Errno(number) => {
                    format!(" — not made, answered with {}", errno_name(number))
                }
                Action::Kill => " — kills, whatever else is said".to_owned(),
            };
            _ = writeln!(text, "  {}{answer}", folded(&forms));
            _ = writeln!(text, "      {} [{}]", rule.why, rule.at);
        }
        text.push('\n');
    }
}

/// Alternatives of one call in one pair of parentheses: `ioctl(cmd = TCGETS | FIONREAD)`
/// where they differ in one value only, else one after the other.
fn folded(forms: &[String]) -> String {
    let mut folded: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for form in forms {
        let (call, terms) = form.split_once('(').unwrap_or((form, ""));
        if !folded.contains_key(call) {
            order.push(call);
        }
        folded
            .entry(call)
            .or_default()
            .push(terms.strip_suffix(')').unwrap_or(terms));
    }
    let parts: Vec<_> = order
        .into_iter()
        .map(|call| match folded[call].as_slice() {
            [""] => call.to_owned(),
            terms => format!("{call}({})", terms.join(" or ")),
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use std::ffi::OsStr;

    fn explained(name: &str) -> String {
        words(name, &load::any(OsStr::new(name)).unwrap())
    }

    #[test]
    fn every_shipped_policy_is_explained_with_every_reason() {
        for name in load::names() {
            let text = explained(name);
            let policy = load::any(OsStr::new(name)).unwrap();
            let (rules, whys) = match &policy {
                AnyPolicy::Rules(rules) => (&rules.rules, vec![]),
                AnyPolicy::Whole(whole) => (&whole.rules, whole.whys.clone()),
            };
            for rule in rules {
                assert!(text.contains(&rule.why), "{name}: {}", rule.at);
                assert!(text.contains(rule.call.name), "{name}: {}", rule.at);
            }
            for why in whys.iter().filter(|why| why.what != "threads") {
                assert!(text.contains(&why.why), "{name}: {}", why.what);
            }
        }
    }

    #[test]
    fn alternatives_are_folded() {
        let forms = ["ioctl(cmd = A)", "ioctl(cmd = B)", "read"].map(str::to_owned);
        assert_eq!(folded(&forms), "ioctl(cmd = A or cmd = B), read");
    }

    #[test]
    fn what_a_reader_asks_first_is_there() {
        let text = explained("default");
        for words in [
            "/usr: read and execute",
            "network: none",
            "memory: 512M",
            "clone3 — not made, answered with ENOSYS",
            "TCP ports to bind: none",
            "capabilities: none",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
    }
}
