//! Held against the program that another back end makes of the same rules.

use super::{assemble, reference};
use crate::policy::load;
use crate::simulate::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, decide};
use crate::{Location, Rule};
use proptest::prelude::*;
use std::fs;

/// The rules of all shipped files that are compiled by themselves.
fn shipped() -> Vec<(String, Vec<Rule>)> {
    let mut all = Vec::new();
    for folder in ["vmm", "jail"] {
        let folder = format!("{}/../{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let at = Location {
                file: name.as_str().into(),
                line: 1,
            };
            let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
            // Whole policies have other keys: their rules are in the files they include.
            if let Ok(rules) = load(&name, &at, &read) {
                all.push((name, rules));
            }
        }
    }
    assert!(all.len() > 12);
    // As whole policies have them: many files' rules in one program.
    let together = |names: &[&str]| -> Vec<Rule> {
        let of = |name: &&str| all.iter().find(|(known, _)| known == name).unwrap();
        let mut rules: Vec<Rule> = names.iter().flat_map(|name| of(name).1.clone()).collect();
        rules = crate::policy::without_repetition(rules.clone(), rules.len()).unwrap();
        rules
    };
    let default = together(&["run.toml", "work.toml", "pairs.toml", "probed.toml"]);
    let strict = together(&["run.toml", "read-only.toml", "probed.toml"]);
    all.push(("default".into(), default));
    all.push(("strict".into(), strict));
    all
}

fn calls(rules: &[Rule]) -> impl Strategy<Value = Call> + use<> {
    let numbers: Vec<u32> = rules.iter().map(|rule| rule.call.number as u32).collect();
    let values: Vec<u64> = rules
        .iter()
        .flat_map(|rule| &rule.conditions)
        .flat_map(|condition| match condition.test {
            crate::Test::Equals(value) => vec![value, value ^ 1, value | 1 << 32],
            crate::Test::Masked { mask, value } => vec![
                value,
                value ^ (mask & mask.wrapping_neg()),
                !mask | value,
                mask,
            ],
            crate::Test::Range { from, to } => vec![from, to, from.wrapping_sub(1), to + 1],
            crate::Test::Own(role) => vec![u64::from(super::OWN_FD + role as u32), 17],
        })
        .chain([0])
        .collect();
    let number = prop_oneof![8 => prop::sample::select(numbers), 2 => 0..520u32, 1 => any::<u32>()];
    let value = prop_oneof![8 => prop::sample::select(values), 1 => 0..128u64, 1 => any::<u64>()];
    let arch = prop_oneof![9 => Just(AUDIT_ARCH_X86_64), 1 => Just(AUDIT_ARCH_I386)];
    (number, arch, prop::array::uniform6(value)).prop_map(|(number, arch, args)| Call {
        number,
        arch,
        args,
    })
}

#[test]
fn both_back_ends_decide_alike() {
    for (name, rules) in shipped() {
        let (program, holes) = assemble(&rules).unwrap();
        let (other, other_holes) = reference::assemble(&rules).unwrap();
        assert_eq!(holes.len(), other_holes.len(), "{name}");
        // Of few rules, the answers that each rule has make ours a little longer.
        let shorter = program.len() < other.len() || other.len() < 500;
        assert!(shorter, "{name}: {} of {}", program.len(), other.len());
        proptest!(ProptestConfig::with_cases(3000), |(call in calls(&rules))| {
            prop_assert_eq!(decide(&program, &call), decide(&other, &call), "{}", name);
        });
    }
}

#[test]
fn every_number_is_decided_alike() {
    for (name, rules) in shipped() {
        let (program, _) = assemble(&rules).unwrap();
        let (other, _) = reference::assemble(&rules).unwrap();
        for number in (0..600).chain(0x4000_0000..0x4000_0258).chain([u32::MAX]) {
            for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
                let call = Call {
                    number,
                    arch: AUDIT_ARCH_X86_64,
                    args,
                };
                assert_eq!(
                    decide(&program, &call),
                    decide(&other, &call),
                    "{name}: {call:x?}"
                );
            }
        }
    }
}
