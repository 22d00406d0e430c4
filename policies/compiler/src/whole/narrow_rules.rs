//! Rules under a base: each must lie within one of the base's, and what is denied is taken
//! away from all of them.

use crate::condition::{covers, excludes};
use crate::policy::{Action, Rule};
use crate::source::{Error, Problem};

/// The base's rules, with those of the syscalls that `own` speaks of replaced by `own`, and
/// without what `denials` match.
pub(crate) fn narrow(
    base_name: &str,
    base: Vec<Rule>,
    own: &[Rule],
    denials: &[Rule],
) -> Result<Vec<Rule>, Error> {
    for rule in own {
        within(base_name, &base, rule)?;
    }
    let respoken = |rule: &Rule| own.iter().any(|own| own.call == rule.call);
    let mut rules: Vec<Rule> = base
        .into_iter()
        .filter(|rule| rule.action != Action::Allow || !respoken(rule))
        .chain(own.iter().cloned())
        .collect();
    for denial in denials {
        rules = without(base_name, rules, denial)?;
    }
    Ok(rules)
}

/// Refuses a rule that allows what no rule of the base does.
fn within(base_name: &str, base: &[Rule], rule: &Rule) -> Result<(), Error> {
    let error = |problem: Problem| Err(problem.at(rule.at.clone()));
    if rule.action != Action::Allow {
        return error(Problem::ErrnoUnderBase(rule.call.name));
    }
    let allowing = || {
        base.iter()
            .filter(|base| base.call == rule.call && base.action == Action::Allow)
    };
    if allowing().any(|base| covers(&base.conditions, &rule.conditions)) {
        return Ok(());
    }
    let allowed: Vec<_> = allowing()
        .map(|base| format!("{base} ({})", base.at))
        .collect();
    error(Problem::Widening {
        what: "rule",
        asked: rule.to_string(),
        base: base_name.to_owned(),
        allowed: match allowed.is_empty() {
            true => format!("no {}", rule.call.name),
            false => allowed.join(" or "),
        },
    })
}

/// Takes away what `denial` matches: with death, or with an errno where the base allows.
fn without(base_name: &str, rules: Vec<Rule>, denial: &Rule) -> Result<Vec<Rule>, Error> {
    let hit = |rule: &&Rule| {
        rule.call == denial.call
            && rule.action == Action::Allow
            && !excludes(&rule.conditions, &denial.conditions)
    };
    let touched: Vec<Rule> = rules.iter().filter(hit).cloned().collect();
    if touched.is_empty() {
        return Err(Problem::NothingToDeny {
            rule: denial.to_string(),
            base: base_name.to_owned(),
        }
        .at(denial.at.clone()));
    }
    let added: Vec<Rule> = match denial.action {
        // Not where the base would kill: that would be an answer it does not give.
        Action::Errno(_) => touched.iter().map(|rule| both(denial, rule)).collect(),
        Action::Allow | Action::Kill => vec![Rule {
            action: Action::Kill,
            ..denial.clone()
        }],
    };
    let gone = |rule: &Rule| {
        rule.call == denial.call
            && rule.action == Action::Allow
            && covers(&denial.conditions, &rule.conditions)
    };
    let left = rules.into_iter().filter(|rule| !gone(rule));
    Ok(left.chain(added).collect())
}

/// The denial, under the conditions of the rule too.
fn both(denial: &Rule, rule: &Rule) -> Rule {
    let mut both = denial.clone();
    for (condition, term) in rule.conditions.iter().zip(&rule.terms) {
        if !both.conditions.contains(condition) {
            both.conditions.push(*condition);
            both.terms.push(term.clone());
        }
    }
    both
}
