//! The same by the crate seccompiler: longer programs, made by other people, to hold ours
//! against.

use super::{Hole, OWN_FD};
use crate::condition::{Condition, Test};
use crate::policy::{Action, Rule};
use crate::roles::Role;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// Stands for "ask the next part" in the parts that answer with an errno.
const NEXT_PART: SeccompAction = SeccompAction::Trace(0xCA5E);

/// A filter of the back end knows one action for all its matches, so there is one for each
/// action, and where one has no match it goes on to the next. Each of them kills a caller of
/// another architecture.
pub(crate) fn assemble(rules: &[Rule]) -> Result<(BpfProgram, Vec<Hole>), BackendError> {
    let mut errnos: BTreeMap<u16, Vec<&Rule>> = BTreeMap::new();
    let mut killed = Vec::new();
    let mut allowed = Vec::new();
    for rule in rules {
        match rule.action {
            Action::Errno(number) => errnos.entry(number).or_default().push(rule),
            Action::Kill => killed.push(rule),
            Action::Allow => allowed.push(rule),
        }
    }

    let mut program = BpfProgram::new();
    if !killed.is_empty() {
        let mut part = filter(&killed, SeccompAction::KillProcess, NEXT_PART)?;
        go_on_after(&mut part);
        program.append(&mut part);
    }
    for (number, rules) in errnos {
        let mut part = filter(&rules, SeccompAction::Errno(number.into()), NEXT_PART)?;
        go_on_after(&mut part);
        program.append(&mut part);
    }
    program.append(&mut filter(
        &allowed,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
    )?);
    let holes = holes(&program, rules)?;
    Ok((program, holes))
}

fn filter(
    rules: &[&Rule],
    matched: SeccompAction,
    unmatched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut chains: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let chain = chains.entry(rule.call.number).or_default();
        let mut conditions = Vec::new();
        for condition in &rule.conditions {
            conditions.extend(compile(condition)?);
        }
        // A chain without rules matches every call; a rule without conditions has
        // been made the only one of its syscall when repetitions were removed.
        if !conditions.is_empty() {
            chain.push(SeccompRule::new(conditions)?);
        }
    }
    SeccompFilter::new(chains, unmatched, matched, TargetArch::x86_64)?.try_into()
}

fn compile(condition: &Condition) -> Result<Vec<SeccompCondition>, BackendError> {
    let length = || match condition.wide {
        true => SeccompCmpArgLen::Qword,
        false => SeccompCmpArgLen::Dword,
    };
    let test = |operator, value| SeccompCondition::new(condition.arg, length(), operator, value);
    match condition.test {
        Test::Equals(value) => Ok(vec![test(SeccompCmpOp::Eq, value)?]),
        Test::Masked { mask, value } => Ok(vec![test(SeccompCmpOp::MaskedEq(mask), value)?]),
        Test::Range { from, to } => Ok(vec![
            test(SeccompCmpOp::Ge, from)?,
            test(SeccompCmpOp::Le, to)?,
        ]),
        Test::Own(role) => Ok(vec![test(SeccompCmpOp::Eq, own_fd(role).into())?]),
    }
}

fn own_fd(role: Role) -> u32 {
    OWN_FD + role as u32
}

/// Turns the part's "no match" answers into jumps to its end.
fn go_on_after(part: &mut BpfProgram) {
    let end = part.len();
    let no_match = u32::from(NEXT_PART);
    for (index, instruction) in part.iter_mut().enumerate() {
        if instruction.code == RETURN && instruction.k == no_match {
            *instruction = sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: (end - index - 1) as u32,
            };
        }
    }
}

fn holes(program: &[sock_filter], rules: &[Rule]) -> Result<Vec<Hole>, BackendError> {
    let own_role = |instruction: &sock_filter| {
        Role::ALL
            .into_iter()
            .find(|role| instruction.code == JUMP_IF_EQUAL && instruction.k == own_fd(*role))
    };
    let holes: Vec<_> = program
        .iter()
        .enumerate()
        .filter_map(|(index, instruction)| own_role(instruction).map(|role| Hole { index, role }))
        .collect();
    let expected = rules
        .iter()
        .flat_map(|rule| &rule.conditions)
        .filter(|condition| matches!(condition.test, Test::Own(_)))
        .count();
    assert_eq!(
        holes.len(),
        expected,
        "the places of the own fds are ambiguous"
    );
    Ok(holes)
}
