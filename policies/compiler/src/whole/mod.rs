//! Whole policies: everything that one jail is held to, in one file.

mod complete;
mod declared;
mod file;
mod narrow;
mod narrow_rules;
mod values;

pub use declared::Why;

use crate::policy::{self, Reader, Rule};
use crate::source::{Error, Location, Problem, Source};
use crate::{Compiled, bpf};
use casemate_policy::{Filter, Instruction, Policy};
use declared::Declared;
use file::WholeFile;
use seccompiler::sock_filter;
use std::collections::BTreeSet;

/// Longest chain of bases.
const MAX_BASES: usize = 8;

/// A whole policy, and what its author says about it.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// What is enforced.
    pub policy: Policy,
    /// Its rules, includes and alternatives expanded; empty where threads have their own.
    pub rules: Vec<Rule>,
    /// What each section is for.
    pub whys: Vec<Why>,
    /// The policies that it narrows, the nearest first.
    pub bases: Vec<String>,
    /// The policies of the threads, by their names.
    pub threads: Vec<(String, Compiled)>,
}

/// Where the text of policies comes from.
#[derive(Clone, Copy)]
pub struct Readers<'a> {
    /// Files of the folder of the policy.
    pub folder: &'a Reader<'a>,
    /// Shipped files: what `base = "NAME"` and `include = ["shipped/FILE"]` speak of.
    pub shipped: &'a Reader<'a>,
}

/// Compiles the whole policy in the file `name`.
///
/// # Errors
/// The first thing that is wrong, with file and line.
pub fn compile_policy(name: &str, readers: Readers<'_>) -> Result<CompiledPolicy, Error> {
    let at = Location {
        file: name.into(),
        line: 1,
    };
    compile_at(name, &at, readers, 0)
}

/// A policy file of either kind.
#[derive(Debug)]
pub enum AnyPolicy {
    /// Of a whole jail.
    Whole(Box<CompiledPolicy>),
    /// Rules alone, of a thread class.
    Rules(Compiled),
}

/// Compiles a file of either kind: one that has a base or a section is a whole policy, one
/// that has rules alone is a thread class's.
///
/// # Errors
/// The first thing that is wrong, with file and line.
pub fn compile_any(name: &str, readers: Readers<'_>) -> Result<AnyPolicy, Error> {
    let at = Location {
        file: name.into(),
        line: 1,
    };
    let source = Source::read(name, &at, readers.folder)?;
    // What cannot be read as one kind may still be of the other; that one's error is told.
    let rules = source.parse::<crate::file::PolicyFile>().is_ok();
    match rules {
        true => compile_rules(name, &at, readers).map(AnyPolicy::Rules),
        false => compile_policy(name, readers).map(|whole| AnyPolicy::Whole(Box::new(whole))),
    }
}

fn compile_rules(name: &str, at: &Location, readers: Readers<'_>) -> Result<Compiled, Error> {
    let read = |name: &str| match name.strip_prefix(policy::SHIPPED) {
        Some(name) => (readers.shipped)(name),
        None => (readers.folder)(name),
    };
    crate::compile_asked(name, at, &read)
}

fn compile_at(
    name: &str,
    asked_at: &Location,
    readers: Readers<'_>,
    depth: usize,
) -> Result<CompiledPolicy, Error> {
    let source = Source::read(name, asked_at, readers.folder)?;
    let file: WholeFile = source.parse()?;
    let said = Declared::of(&source, &file)?;

    let mut own = Vec::new();
    let included = included(&source, &file, readers, &mut own)?;
    policy::resolve(&source, &file.rules, &BTreeSet::new(), &mut own)?;
    let own = policy::without_repetition(own, included)?;

    let mut compiled = match &file.base {
        None => {
            if let Some(denial) = file.denials.first() {
                return Err(Problem::DenyWithoutBase.at(source.at(denial.span().start)));
            }
            root(&source, &said, own, readers)?
        }
        Some(base) => {
            let at = source.at(base.span().start);
            if depth == MAX_BASES {
                return Err(Problem::TooManyBases.at(at));
            }
            let base = self::base(base.get_ref(), &at, readers, depth + 1)?;
            let mut denials = Vec::new();
            policy::resolve(&source, &file.denials, &BTreeSet::new(), &mut denials)?;
            narrowed(&source, base, &said, &own, &denials)?
        }
    };
    if compiled.threads.is_empty() {
        let (program, holes) =
            bpf::assemble(&compiled.rules).map_err(|problem| problem.at(source.at(0)))?;
        debug_assert!(holes.is_empty(), "a whole policy has no `own`");
        compiled.policy.seccomp = Some(filter(&program));
    }
    compiled.policy.digest = digest(&compiled).into();
    Ok(compiled)
}

/// A policy without a base.
fn root(
    source: &Source,
    said: &Declared,
    rules: Vec<Rule>,
    readers: Readers<'_>,
) -> Result<CompiledPolicy, Error> {
    let mut threads = Vec::new();
    for file in &said.threads {
        if let Some(rule) = rules.first() {
            return Err(Problem::RulesBesideThreads.at(rule.at.clone()));
        }
        policy::plain_name(&file.value, &file.at)?;
        if threads.iter().any(|(name, _)| name == stem(&file.value)) {
            return Err(Problem::Twice("thread class", file.value.clone()).at(file.at.clone()));
        }
        let compiled = crate::compile_asked(&file.value, &file.at, readers.folder)?;
        threads.push((stem(&file.value).to_owned(), compiled));
    }
    if rules.is_empty() && threads.is_empty() {
        return Err(Problem::NoRules.at(source.at(0)));
    }
    Ok(CompiledPolicy {
        policy: complete::complete(&source.file, said)?,
        rules,
        whys: said.whys.clone(),
        bases: vec![],
        threads,
    })
}

/// A policy that narrows `base`.
fn narrowed(
    source: &Source,
    base: CompiledPolicy,
    said: &Declared,
    rules: &[Rule],
    denials: &[Rule],
) -> Result<CompiledPolicy, Error> {
    if let Some(threads) = said.threads.first() {
        return Err(Problem::ThreadsWithBase.at(threads.at.clone()));
    }
    if !base.threads.is_empty()
        && let Some(rule) = rules.iter().chain(denials).next()
    {
        return Err(Problem::RulesBesideThreads.at(rule.at.clone()));
    }
    let mut policy = narrow::narrow(&base.policy, said)?;
    policy.name = stem(&source.file).to_owned().into();
    let base_name = base.policy.name.clone().into_owned();
    Ok(CompiledPolicy {
        policy,
        rules: narrow_rules::narrow(&base_name, base.rules, rules, denials)?,
        whys: said.whys.iter().cloned().chain(base.whys).collect(),
        bases: std::iter::once(base_name).chain(base.bases).collect(),
        threads: base.threads,
    })
}

/// The base: a shipped policy by its name, or a file of the same folder.
fn base(
    base: &str,
    at: &Location,
    readers: Readers<'_>,
    depth: usize,
) -> Result<CompiledPolicy, Error> {
    if base.ends_with(".toml") {
        policy::plain_name(base, at)?;
        return compile_at(base, at, readers, depth);
    }
    let shipped = Readers {
        folder: readers.shipped,
        shipped: readers.shipped,
    };
    let file = format!("{base}.toml");
    match policy::plain_name(&file, at).is_ok() && (readers.shipped)(&file).is_ok() {
        true => compile_at(&file, at, shipped, depth),
        false => Err(Problem::UnknownBase(base.to_owned()).at(at.clone())),
    }
}

/// Adds the rules of the included files; how many they are.
fn included(
    source: &Source,
    file: &WholeFile,
    readers: Readers<'_>,
    rules: &mut Vec<Rule>,
) -> Result<usize, Error> {
    let read = |name: &str| match name.strip_prefix(policy::SHIPPED) {
        Some(name) => (readers.shipped)(name),
        None => (readers.folder)(name),
    };
    let mut seen = BTreeSet::new();
    policy::include(
        source,
        &file.include,
        &BTreeSet::new(),
        &mut seen,
        rules,
        &read,
    )?;
    Ok(rules.len())
}

fn filter(program: &[sock_filter]) -> Filter {
    Filter {
        program: program
            .iter()
            .map(|i| Instruction {
                code: i.code,
                jt: i.jt,
                jf: i.jf,
                k: i.k,
            })
            .collect(),
    }
}

/// BLAKE3 over all that is enforced: the policy without its name, and the threads' programs.
fn digest(compiled: &CompiledPolicy) -> String {
    let mut enforced = compiled.policy.clone();
    enforced.name = "".into();
    enforced.digest = "".into();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&postcard::to_stdvec(&enforced).expect("plain data can be written"));
    for (name, thread) in &compiled.threads {
        hasher.update(name.as_bytes());
        let program = filter(&thread.program);
        hasher.update(&postcard::to_stdvec(&program).expect("plain data can be written"));
    }
    hasher.finalize().to_string()
}

/// A file's name without its folder and `.toml`.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.strip_suffix(".toml").unwrap_or(file)
}
