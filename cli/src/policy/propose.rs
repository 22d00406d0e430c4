//! A policy's text from the calls of one run.

use super::groups::Group;
use casemate_policy_compiler::{
    AUDIT_ARCH_X86_64, Action, Call, CompiledPolicy, Syscall, Verdict, decide, sock_filter, spoken,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Most different forms of one call that are told apart.
const MOST_FORMS: usize = 64;

/// Arguments that the language has words for, with those.
type Form = Vec<(&'static str, String)>;

/// The calls of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// By number: the forms, and an example of each with its caller.
    calls: BTreeMap<i64, BTreeMap<Form, ([u64; 6], String)>>,
}

impl Seen {
    /// Adds a call; `caller` names its thread.
    pub fn add(&mut self, number: i64, args: &[u64; 6], caller: impl FnOnce() -> String) {
        let forms = self.calls.entry(number).or_default();
        let form = Syscall::of_number(number).map_or_else(Vec::new, |call| spoken(call, args));
        if forms.len() < MOST_FORMS && !forms.contains_key(&form) {
            forms.insert(form, (*args, caller()));
        }
    }

    /// The names of what was called.
    #[cfg(test)]
    pub fn names(&self) -> Vec<&'static str> {
        let known = self.calls.keys().filter_map(|n| Syscall::of_number(*n));
        known.map(|call| call.name).collect()
    }
}

/// A whole policy that allows what was seen and nothing else.
pub fn from_scratch(command: &str, seen: &Seen) -> String {
    let mut text = head(command);
    text += "\n[cgroup]\nmemory = \"256M\"\npids = 64\n\
             why = \"Proposed, not measured: how much does it need?\"\n";
    for group in Group::ALL {
        // Calls of a group without conditions share a rule.
        let mut plain = Vec::new();
        for (number, forms) in &seen.calls {
            let Some(call) = Syscall::of_number(*number) else {
                _ = writeln!(
                    text,
                    "\n# A call of number {number}, which has no name here."
                );
                continue;
            };
            if Group::of(call.name) != group {
                continue;
            }
            match conditions(forms) {
                Some(rules) => rules
                    .iter()
                    .for_each(|args| rule(&mut text, call.name, args)),
                None => plain.push(format!("\"{}\"", call.name)),
            }
        }
        if !plain.is_empty() {
            let title = group.title();
            _ = write!(
                text,
                "\n[[rule]]\nsyscall = [{}]\nwhy = \"{title}: seen in the run. What for?\"\n",
                plain.join(", ")
            );
        }
    }
    text
}

/// A policy that takes away from `base` what was not seen.
pub fn under(name: &str, base: &CompiledPolicy, command: &str, seen: &Seen) -> String {
    let mut text = head(command);
    _ = writeln!(text, "base = {:?}", base_name(name));
    let program = program(base);
    for (number, forms) in &seen.calls {
        for (form, (args, caller)) in forms {
            let call = Call {
                number: *number as u32,
                arch: AUDIT_ARCH_X86_64,
                args: *args,
            };
            let answer = match decide(&program, &call) {
                Verdict::Allow => continue,
                Verdict::Errno(number) => {
                    let errno = casemate_policy_compiler::errno_name(number);
                    format!("answers with {errno}")
                }
                _ => "kills".to_owned(),
            };
            let name = Syscall::of_number(*number)
                .map_or_else(|| format!("call {number}"), |call| call.name.to_owned());
            let form: Vec<_> = form
                .iter()
                .map(|(arg, value)| format!("{arg} = {value}"))
                .collect();
            let caller: String = caller.chars().filter(|c| !c.is_control()).collect();
            let form = form.join(", ");
            _ = writeln!(
                text,
                "# The base {answer}: {name}({form}), called by {caller}."
            );
        }
    }
    let allowed: BTreeSet<&str> = base
        .rules
        .iter()
        .filter(|rule| rule.action == Action::Allow)
        .map(|rule| rule.call.name)
        .filter(|name| {
            Syscall::find(name).is_some_and(|call| !seen.calls.contains_key(&call.number))
        })
        .collect();
    for group in Group::ALL {
        let names: Vec<_> = allowed
            .iter()
            .filter(|name| Group::of(name) == group)
            .map(|name| format!("\"{name}\""))
            .collect();
        if !names.is_empty() {
            let title = group.title();
            _ = write!(
                text,
                "\n[[deny]]\nsyscall = [{}]\nwhy = \"{title}: not seen in the run.\"\n",
                names.join(", ")
            );
        }
    }
    text
}

/// A base as a policy file beside the proposal would name it.
fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn program(base: &CompiledPolicy) -> Vec<sock_filter> {
    let filter = base.policy.seccomp.as_ref();
    let instructions = filter.map_or(&[][..], |filter| &filter.program);
    instructions
        .iter()
        .map(|i| sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect()
}

fn head(command: &str) -> String {
    let command: String = command
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    format!(
        "# Proposed from one run of: {command}\n\
         # Another run may call more. Give every rule its reason, and take away what has none.\n"
    )
}

/// The arguments of each rule for a call; `None` where some form has no words.
fn conditions<T>(forms: &BTreeMap<Form, T>) -> Option<Vec<String>> {
    let bound = forms.keys().all(|form| !form.is_empty());
    let names = |form: &Form| form.iter().map(|(arg, _)| *arg).collect::<Vec<_>>();
    let first = forms.keys().next().map(names)?;
    let alike = forms.keys().all(|form| names(form) == first);
    if !bound || !alike || forms.len() >= MOST_FORMS {
        return None;
    }
    if let [only] = first.as_slice() {
        let values: Vec<_> = forms
            .keys()
            .map(|form| format!("\"{}\"", form[0].1))
            .collect();
        return Some(vec![format!("{only} = [{}]", values.join(", "))]);
    }
    let each = forms.keys().map(|form| {
        let pairs: Vec<_> = form
            .iter()
            .map(|(arg, value)| format!("{arg} = \"{value}\""))
            .collect();
        pairs.join(", ")
    });
    Some(each.collect())
}

fn rule(text: &mut String, call: &str, args: &str) {
    _ = write!(
        text,
        "\n[[rule]]\nsyscall = \"{call}\"\nargs = {{ {args} }}\nwhy = \"Seen in the run. What for?\"\n"
    );
}
