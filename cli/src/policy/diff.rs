//! What one policy allows and another does not, by what the rules match and not by how they
//! are written.

use super::facts::{self, Fact};
use casemate_policy_compiler::{Action, AnyPolicy, Rule, errno_name};
use std::fmt::Write as _;

/// The whole comparison.
pub fn words(a_name: &str, a: &AnyPolicy, b_name: &str, b: &AnyPolicy) -> String {
    let mut text = String::new();
    if let (AnyPolicy::Whole(a), AnyPolicy::Whole(b)) = (a, b) {
        changed(&mut text, &facts::of(&a.policy), &facts::of(&b.policy));
    }
    let mut differs = !text.is_empty();
    for (class, a, b) in classes(a, b) {
        for (name, only) in [(b_name, beyond(a, b)), (a_name, beyond(b, a))] {
            if only.is_empty() {
                continue;
            }
            differs = true;
            let class = class.map_or(String::new(), |class| format!(", thread class {class}"));
            _ = writeln!(text, "Only {name} allows{class}:");
            for line in only {
                _ = writeln!(text, "  {line}");
            }
        }
    }
    if !differs {
        _ = writeln!(text, "{a_name} and {b_name} allow the same.");
    }
    text
}

/// The rules to compare with each other: by thread class where both have classes.
fn classes<'a>(
    a: &'a AnyPolicy,
    b: &'a AnyPolicy,
) -> Vec<(Option<&'a str>, &'a [Rule], &'a [Rule])> {
    match (a, b) {
        (AnyPolicy::Whole(a), AnyPolicy::Whole(b))
            if !a.threads.is_empty() || !b.threads.is_empty() =>
        {
            let names = a.threads.iter().chain(&b.threads).map(|(name, _)| name);
            let mut names: Vec<&String> = names.collect();
            names.sort();
            names.dedup();
            let of = |threads: &'a [(String, casemate_policy_compiler::Compiled)], name: &str| {
                let thread = threads.iter().find(|(known, _)| known == name);
                thread.map_or(&[][..], |(_, thread)| thread.rules.as_slice())
            };
            names
                .into_iter()
                .map(|name| {
                    (
                        Some(name.as_str()),
                        of(&a.threads, name),
                        of(&b.threads, name),
                    )
                })
                .chain([(None, a.rules.as_slice(), b.rules.as_slice())])
                .collect()
        }
        _ => vec![(None, rules(a), rules(b))],
    }
}

fn rules(policy: &AnyPolicy) -> &[Rule] {
    match policy {
        AnyPolicy::Whole(whole) => &whole.rules,
        AnyPolicy::Rules(rules) => &rules.rules,
    }
}

/// The facts that are not the same.
fn changed(text: &mut String, a: &[Fact], b: &[Fact]) {
    let find = |facts: &[Fact], fact: &Fact| {
        let same = |other: &&Fact| other.section == fact.section && other.subject == fact.subject;
        facts.iter().find(same).map(|fact| fact.state.clone())
    };
    let absent = || "not there".to_owned();
    for fact in a {
        let other = find(b, fact);
        if other.as_ref() != Some(&fact.state) {
            let other = other.unwrap_or_else(absent);
            _ = writeln!(
                text,
                "{} {}: {} -> {other}",
                fact.section, fact.subject, fact.state
            );
        }
    }
    for fact in b.iter().filter(|fact| find(a, fact).is_none()) {
        _ = writeln!(
            text,
            "{} {}: {} -> {}",
            fact.section,
            fact.subject,
            absent(),
            fact.state
        );
    }
}

/// What `b` allows beyond `a`.
fn beyond(a: &[Rule], b: &[Rule]) -> Vec<String> {
    let mut lines = Vec::new();
    let refusals = |rules: &[Rule]| -> Vec<Rule> {
        let refuse = rules.iter().filter(|rule| rule.action != Action::Allow);
        refuse.cloned().collect()
    };
    let (a_refuses, b_refuses) = (refusals(a), refusals(b));
    for rule in b.iter().filter(|rule| rule.action == Action::Allow) {
        if b_refuses.iter().any(|refusal| refusal.covers(rule)) {
            continue;
        }
        let allowed = a
            .iter()
            .any(|other| other.action == Action::Allow && other.covers(rule));
        if !allowed {
            lines.push(format!("{rule}: {} [{}]", rule.why, rule.at));
            continue;
        }
        for refusal in a_refuses.iter().filter(|refusal| !refusal.excludes(rule)) {
            if b_refuses.iter().any(|b| b.covers_both(refusal, rule)) {
                continue;
            }
            let answer = match refusal.action {
                Action::Errno(number) => format!("answered with {}", errno_name(number)),
                _ => "killed".to_owned(),
            };
            lines.push(format!(
                "{refusal}, which the other has {answer}: {} [{}]",
                rule.why, rule.at
            ));
        }
    }
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use std::ffi::OsStr;

    fn of(a: &str, b: &str) -> String {
        let any = |name: &str| load::any(OsStr::new(name)).unwrap();
        words(a, &any(a), b, &any(b))
    }

    #[test]
    fn a_policy_is_the_same_as_itself() {
        for name in load::names() {
            assert_eq!(
                of(name, name),
                format!("{name} and {name} allow the same.\n")
            );
        }
    }

    #[test]
    fn network_is_default_and_sockets() {
        let text = of("default", "network");
        for words in [
            "network network: none: a namespace without an interface -> the host's",
            "files /etc/resolv.conf: not there -> read and execute",
            "Only network allows:\n",
            "  connect: Connections, in and out.",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        // What is written otherwise and means the same is no difference.
        assert!(
            !text.contains("  read:") && !text.contains("mmap"),
            "{text}"
        );
    }

    #[test]
    fn what_is_answered_with_an_errno_is_told() {
        let text = of("strict", "default");
        let words = "open(flags with O_WRONLY), which the other has answered with EACCES";
        assert!(text.contains(words), "{text}");
        assert!(text.contains("  mkdir: "), "{text}");
    }

    #[test]
    fn a_tenants_policy_allows_nothing_that_its_base_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let text = "base = \"default\"\n[[deny]]\nsyscall = [\"mkdir\", \"socketpair\"]\nwhy = \"w\"\n\
                    [[rule]]\nsyscall = \"fcntl\"\nargs = { cmd = \"F_GETFD\" }\nwhy = \"w\"\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let text = of("default", path);
        assert!(!text.contains(&format!("Only {path}")), "{text}");
        assert!(text.contains("Only default allows:"), "{text}");
        assert!(
            text.contains("  mkdir: ") && text.contains("fcntl(cmd = F_SETFL)"),
            "{text}"
        );
    }
}
