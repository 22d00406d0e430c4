//! From files to rules: includes followed, names given their meaning, repetitions refused.

use crate::condition::{Condition, Test, covers, excludes};
use crate::constants;
use crate::file::{ArgEntry, BitsEntry, PolicyFile, RuleEntry, Words};
use crate::roles::Role;
use crate::source::{Error, Location, Problem, Source};
use crate::syscalls::{Arg, Kind, Syscall};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use toml::Spanned;

/// What happens to a call that a rule matches. One that none matches kills the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The kernel does it.
    Allow,
    /// The kernel does nothing and the caller gets this errno.
    Errno(u16),
    /// The process is killed, whatever other rules say: what a policy with a base denies.
    Kill,
}

/// One syscall under conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The syscall.
    pub call: Syscall,
    /// All must hold; none means every call.
    pub conditions: Vec<Condition>,
    /// The conditions as the policy's author wrote them, one for one.
    pub terms: Vec<String>,
    /// What happens then.
    pub action: Action,
    /// What the thread needs it for.
    pub why: String,
    /// Where the rule stands.
    pub at: Location,
}

impl Rule {
    /// Whether it matches every call that `other` does (a `false` may be over-careful).
    pub fn covers(&self, other: &Self) -> bool {
        self.call == other.call && covers(&self.conditions, &other.conditions)
    }

    /// Whether no call matches both (a `false` may be over-careful).
    pub fn excludes(&self, other: &Self) -> bool {
        self.call != other.call || excludes(&self.conditions, &other.conditions)
    }

    /// Whether it matches every call that matches both `one` and `other`.
    pub fn covers_both(&self, one: &Self, other: &Self) -> bool {
        let both = [one.conditions.clone(), other.conditions.clone()].concat();
        self.call == one.call && covers(&self.conditions, &both)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call.name)?;
        match self.terms.is_empty() {
            true => Ok(()),
            false => write!(f, "({})", self.terms.join(", ")),
        }
    }
}

/// Gives the text of a policy file by its name.
pub type Reader<'a> = dyn Fn(&str) -> io::Result<String> + 'a;

/// What an include's name begins with where it is a shipped file.
pub(crate) const SHIPPED: &str = "shipped/";

/// All rules of the policy `name`, its includes' first.
pub(crate) fn load(name: &str, asked_at: &Location, read: &Reader) -> Result<Vec<Rule>, Error> {
    let (source, file) = parse(name, asked_at, read)?;
    let own = own_roles(&source, &file)?;
    let own_set: BTreeSet<Role> = own.iter().map(|(role, _)| *role).collect();

    let mut seen = BTreeSet::from([name.to_owned()]);
    let mut rules = Vec::new();
    include(
        &source,
        &file.include,
        &own_set,
        &mut seen,
        &mut rules,
        read,
    )?;
    let included = rules.len();
    resolve(&source, &file.rules, &own_set, &mut rules)?;

    for (role, at) in own {
        let bound = |rule: &Rule| rule.conditions.iter().any(|c| c.test == Test::Own(role));
        if !rules.iter().any(bound) {
            return Err(Problem::OwnUnused(role.name()).at(at));
        }
    }
    without_repetition(rules, included)
}

fn parse(name: &str, at: &Location, read: &Reader) -> Result<(Source, PolicyFile), Error> {
    let source = Source::read(name, at, read)?;
    let file: PolicyFile = source.parse()?;
    match file.rules.is_empty() {
        true => Err(Problem::NoRules.at(source.at(0))),
        false => Ok((source, file)),
    }
}

fn own_roles(source: &Source, file: &PolicyFile) -> Result<Vec<(Role, Location)>, Error> {
    let role_of = |entry: &Spanned<String>| {
        let at = source.at(entry.span().start);
        match role(entry.get_ref()) {
            Ok(role) if role.can_be_own() => Ok((role, at)),
            Ok(role) => Err(Problem::OwnFixed(role.name()).at(at)),
            Err(problem) => Err(problem.at(at)),
        }
    };
    file.own.iter().map(role_of).collect()
}

/// Refuses a name that could lead out of the folder.
pub(crate) fn plain_name(name: &str, at: &Location) -> Result<(), Error> {
    let file = name.strip_prefix(SHIPPED).unwrap_or(name);
    match file.contains(['/', '\0']) || file.starts_with('.') || file.is_empty() {
        true => Err(Problem::IncludeName(name.to_owned()).at(at.clone())),
        false => Ok(()),
    }
}

/// Adds the rules of the included files, each file once.
pub(crate) fn include(
    source: &Source,
    included: &[Spanned<String>],
    own: &BTreeSet<Role>,
    seen: &mut BTreeSet<String>,
    rules: &mut Vec<Rule>,
    read: &Reader,
) -> Result<(), Error> {
    for entry in included {
        let name = entry.get_ref();
        let at = source.at(entry.span().start);
        plain_name(name, &at)?;
        if seen.insert(name.clone()) {
            let (source, file) = parse(name, &at, read)?;
            include(&source, &file.include, own, seen, rules, read)?;
            resolve(&source, &file.rules, own, rules)?;
        }
    }
    Ok(())
}

/// Adds the rules that stand in one file.
pub(crate) fn resolve(
    source: &Source,
    entries: &[Spanned<RuleEntry>],
    own: &BTreeSet<Role>,
    rules: &mut Vec<Rule>,
) -> Result<(), Error> {
    for entry in entries {
        let at = source.at(entry.span().start);
        let entry = entry.get_ref();
        let why = match &entry.why {
            Some(why) if !why.get_ref().trim().is_empty() => why.get_ref().trim().to_owned(),
            Some(blank) => return Err(Problem::NoWhy.at(source.at(blank.span().start))),
            None => return Err(Problem::NoWhy.at(at)),
        };
        let action = match &entry.errno {
            None => Action::Allow,
            Some(name) => Action::Errno(constants::errno(name.get_ref()).ok_or_else(|| {
                Problem::UnknownErrno(name.get_ref().clone()).at(source.at(name.span().start))
            })?),
        };
        for name in alternatives(source, &entry.syscall, "syscalls")? {
            let call = Syscall::find(name).ok_or_else(|| {
                Problem::UnknownSyscall(name.clone()).at(source.at(entry.syscall.span().start))
            })?;
            for alternative in conditions(source, entry, call, own)? {
                let (conditions, terms) = alternative.into_iter().unzip();
                rules.push(Rule {
                    call,
                    conditions,
                    terms,
                    action,
                    why: why.clone(),
                    at: at.clone(),
                });
            }
        }
    }
    Ok(())
}

/// A condition, and how the policy's author wrote it.
type Term = (Condition, String);

/// The alternatives of a rule, each a list of conditions that must all hold.
fn conditions(
    source: &Source,
    entry: &RuleEntry,
    call: Syscall,
    own: &BTreeSet<Role>,
) -> Result<Vec<Vec<Term>>, Error> {
    let mut product = vec![vec![]];
    let mut require = |index: usize, arg: Arg, tests: Vec<(Test, String)>| {
        let term = |(test, text): &(Test, String)| {
            let condition = Condition {
                arg: index as u8,
                wide: matches!(arg.kind, Kind::Long | Kind::Ptr),
                test: *test,
            };
            (condition, format!("{} {text}", arg.name))
        };
        product = tests
            .iter()
            .flat_map(|test| {
                product.iter().map(|so_far: &Vec<Term>| {
                    let mut longer = so_far.clone();
                    longer.push(term(test));
                    longer
                })
            })
            .collect();
    };

    if let Some(words) = &entry.fd {
        let at = || source.at(words.span().start);
        let (index, arg) = argument(call, "fd").map_err(|problem| problem.at(at()))?;
        let roles = alternatives(source, words, "roles")?;
        let tests: Result<_, _> = roles.iter().map(|name| fd_test(name, own)).collect();
        require(index, arg, tests.map_err(|problem| problem.at(at()))?);
    }
    for (name, value) in &entry.args {
        let at = || source.at(name.span().start);
        if name.get_ref() == "fd" {
            return Err(Problem::FdInArgs.at(at()));
        }
        let (index, arg) = argument(call, name.get_ref()).map_err(|problem| problem.at(at()))?;
        let tests = arg_tests(arg, value.get_ref(), own).map_err(|problem| problem.at(at()))?;
        require(index, arg, tests);
    }
    Ok(product)
}

fn alternatives<'a>(
    source: &Source,
    words: &'a Spanned<Words>,
    what: &'static str,
) -> Result<&'a [String], Error> {
    match words.get_ref().0.as_slice() {
        [] => Err(Problem::EmptyList(what).at(source.at(words.span().start))),
        words => Ok(words),
    }
}

fn argument(call: Syscall, name: &str) -> Result<(usize, Arg), Problem> {
    call.args
        .iter()
        .copied()
        .enumerate()
        .find(|(_, arg)| arg.name == name && arg.kind != Kind::Ptr)
        .ok_or_else(|| Problem::UnknownArgument {
            call: call.name,
            arg: name.to_owned(),
            known: call.checkable(),
        })
}

fn role(name: &str) -> Result<Role, Problem> {
    Role::find(name).ok_or_else(|| Problem::UnknownRole {
        name: name.to_owned(),
        known: Role::names(),
    })
}

fn fd_test(name: &str, own: &BTreeSet<Role>) -> Result<(Test, String), Problem> {
    let role = role(name)?;
    Ok(match own.contains(&role) {
        true => (Test::Own(role), format!("= its own {name}")),
        false => (role.test(), format!("= {name}")),
    })
}

fn arg_tests(
    arg: Arg,
    entry: &ArgEntry,
    own: &BTreeSet<Role>,
) -> Result<Vec<(Test, String)>, Problem> {
    let bits = match entry {
        ArgEntry::Words(Words(words)) if words.is_empty() => {
            return Err(Problem::EmptyList("constants"));
        }
        ArgEntry::Words(Words(words)) if arg.kind == Kind::Fd => {
            return words.iter().map(|name| fd_test(name, own)).collect();
        }
        ArgEntry::Words(Words(words)) => {
            let equals = |word: &String| {
                constant(arg, word).map(|value| (Test::Equals(value), format!("= {word}")))
            };
            return words.iter().map(equals).collect();
        }
        ArgEntry::Bits(_) if arg.kind == Kind::Fd => return Err(Problem::MaskOnFd(arg.name)),
        ArgEntry::Bits(bits) => bits,
    };
    let register = match arg.kind {
        Kind::Int | Kind::Fd => u64::from(u32::MAX),
        Kind::Long | Kind::Ptr => u64::MAX,
    };
    let (mask, value, text) = match bits {
        BitsEntry::Only(bits) => (register & !constant(arg, bits)?, 0, format!("only {bits}")),
        BitsEntry::NoneOf(bits) => (constant(arg, bits)?, 0, format!("without {bits}")),
        BitsEntry::AllOf(bits) => {
            let value = constant(arg, bits)?;
            (value, value, format!("with {bits}"))
        }
    };
    Ok(vec![(Test::Masked { mask, value }, text)])
}

fn constant(arg: Arg, expression: &str) -> Result<u64, Problem> {
    let value = constants::value(expression).map_err(Problem::UnknownConstant)?;
    match arg.kind {
        Kind::Int if value > u64::from(u32::MAX) => Err(Problem::TooWide {
            value: expression.to_owned(),
            arg: arg.name,
        }),
        _ => Ok(value),
    }
}

/// Refuses rules of the policy itself (those from `included` on) that another rule
/// makes needless and rules that another makes void; of included rules, which
/// may repeat one another, keeps the widest.
pub(crate) fn without_repetition(rules: Vec<Rule>, included: usize) -> Result<Vec<Rule>, Error> {
    let mut needless = BTreeSet::new();
    for (later, rule) in rules.iter().enumerate() {
        for (earlier, other) in rules[..later].iter().enumerate() {
            if rule.call != other.call {
                continue;
            }
            let covered = covers(&other.conditions, &rule.conditions);
            let covering = covers(&rule.conditions, &other.conditions);
            let pair = || (rule.call.name, other.at.clone());
            let void = match (other.action, rule.action) {
                (a, b) if a == b => false,
                (Action::Errno(_), Action::Allow) => covered,
                (Action::Allow, Action::Errno(_)) => covering,
                _ => covered || covering,
            };
            if void {
                let (call, earlier) = pair();
                return Err(Problem::Contradiction { call, earlier }.at(rule.at.clone()));
            }
            if rule.action != other.action || !(covered || covering) {
                continue;
            }
            if later >= included && (covered || earlier >= included) {
                let (call, earlier) = pair();
                return Err(Problem::Duplicate { call, earlier }.at(rule.at.clone()));
            }
            needless.insert(if covered { later } else { earlier });
        }
    }
    let kept = rules.into_iter().enumerate();
    Ok(kept
        .filter(|(index, _)| !needless.contains(index))
        .map(|(_, rule)| rule)
        .collect())
}
