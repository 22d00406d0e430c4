//! From files to rules: includes followed, names given their meaning, repetitions refused.

use crate::condition::{Condition, Test, covers};
use crate::constants;
use crate::file::{ArgEntry, BitsEntry, PolicyFile, RuleEntry, Words};
use crate::roles::Role;
use crate::source::{Error, Location, Problem, Source};
use crate::syscalls::{Arg, Kind, Syscall};
use std::collections::BTreeSet;
use std::io;
use toml::Spanned;

/// What happens to a call that a rule matches. One that none matches kills the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The kernel does it.
    Allow,
    /// The kernel does nothing and the caller gets this errno.
    Errno(u16),
}

/// One syscall under conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The syscall.
    pub call: Syscall,
    /// All must hold; none means every call.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub action: Action,
    /// What the thread needs it for.
    pub why: String,
    /// Where the rule stands.
    pub at: Location,
}

/// Gives the text of a policy file by its name.
pub type Reader<'a> = dyn Fn(&str) -> io::Result<String> + 'a;

/// All rules of the policy `name`, its includes' first.
pub(crate) fn load(name: &str, read: &Reader) -> Result<Vec<Rule>, Error> {
    let root = Location {
        file: name.into(),
        line: 1,
    };
    let (source, file) = parse(name, &root, read)?;
    let own = own_roles(&source, &file)?;
    let own_set: BTreeSet<Role> = own.iter().map(|(role, _)| *role).collect();

    let mut seen = BTreeSet::from([name.to_owned()]);
    let mut rules = Vec::new();
    include(&source, &file, &own_set, &mut seen, &mut rules, read)?;
    let included = rules.len();
    resolve(&source, &file, &own_set, &mut rules)?;

    for (role, at) in own {
        let bound = |rule: &Rule| rule.conditions.iter().any(|c| c.test == Test::Own(role));
        if !rules.iter().any(bound) {
            return Err(Problem::OwnUnused(role.name()).at(at));
        }
    }
    without_repetition(rules, included)
}

fn parse(name: &str, at: &Location, read: &Reader) -> Result<(Source, PolicyFile), Error> {
    let text = read(name).map_err(|error| Problem::Read(error).at(at.clone()))?;
    let source = Source {
        file: name.into(),
        text,
    };
    let file: PolicyFile = toml::from_str(&source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Problem::Toml(error.message().to_owned()).at(source.at(offset))
    })?;
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

/// Adds the rules of the included files, each file once.
fn include(
    source: &Source,
    file: &PolicyFile,
    own: &BTreeSet<Role>,
    seen: &mut BTreeSet<String>,
    rules: &mut Vec<Rule>,
    read: &Reader,
) -> Result<(), Error> {
    for entry in &file.include {
        let name = entry.get_ref();
        let at = source.at(entry.span().start);
        if name.contains('/') || name.starts_with('.') || name.is_empty() {
            return Err(Problem::IncludeName(name.clone()).at(at));
        }
        if seen.insert(name.clone()) {
            let (source, file) = parse(name, &at, read)?;
            include(&source, &file, own, seen, rules, read)?;
            resolve(&source, &file, own, rules)?;
        }
    }
    Ok(())
}

/// Adds the rules that stand in one file.
fn resolve(
    source: &Source,
    file: &PolicyFile,
    own: &BTreeSet<Role>,
    rules: &mut Vec<Rule>,
) -> Result<(), Error> {
    for entry in &file.rules {
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
            for conditions in conditions(source, entry, call, own)? {
                rules.push(Rule {
                    call,
                    conditions,
                    action,
                    why: why.clone(),
                    at: at.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The alternatives of a rule, each a list of conditions that must all hold.
fn conditions(
    source: &Source,
    entry: &RuleEntry,
    call: Syscall,
    own: &BTreeSet<Role>,
) -> Result<Vec<Vec<Condition>>, Error> {
    let mut product = vec![vec![]];
    let mut require = |index: usize, arg: Arg, tests: Vec<Test>| {
        let condition = |test| Condition {
            arg: index as u8,
            wide: matches!(arg.kind, Kind::Long | Kind::Ptr),
            test,
        };
        product = tests
            .iter()
            .flat_map(|test| {
                product.iter().map(|so_far: &Vec<Condition>| {
                    let mut longer = so_far.clone();
                    longer.push(condition(*test));
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

fn fd_test(name: &str, own: &BTreeSet<Role>) -> Result<Test, Problem> {
    let role = role(name)?;
    Ok(match own.contains(&role) {
        true => Test::Own(role),
        false => role.test(),
    })
}

fn arg_tests(arg: Arg, entry: &ArgEntry, own: &BTreeSet<Role>) -> Result<Vec<Test>, Problem> {
    let bits = match entry {
        ArgEntry::Words(Words(words)) if words.is_empty() => {
            return Err(Problem::EmptyList("constants"));
        }
        ArgEntry::Words(Words(words)) if arg.kind == Kind::Fd => {
            return words.iter().map(|name| fd_test(name, own)).collect();
        }
        ArgEntry::Words(Words(words)) => {
            let equals = |word: &String| constant(arg, word).map(Test::Equals);
            return words.iter().map(equals).collect();
        }
        ArgEntry::Bits(_) if arg.kind == Kind::Fd => return Err(Problem::MaskOnFd(arg.name)),
        ArgEntry::Bits(bits) => bits,
    };
    let register = match arg.kind {
        Kind::Int | Kind::Fd => u64::from(u32::MAX),
        Kind::Long | Kind::Ptr => u64::MAX,
    };
    let (mask, value) = match bits {
        BitsEntry::Only(bits) => (register & !constant(arg, bits)?, 0),
        BitsEntry::NoneOf(bits) => (constant(arg, bits)?, 0),
        BitsEntry::AllOf(bits) => {
            let bits = constant(arg, bits)?;
            (bits, bits)
        }
    };
    Ok(vec![Test::Masked { mask, value }])
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
fn without_repetition(rules: Vec<Rule>, included: usize) -> Result<Vec<Rule>, Error> {
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
