//! The guest's own list of attacks.

use crate::bare::Setup;
use casemate_tests::hostile_guest;
use std::fmt::Write;

/// Attacks that one VM sees, at most.
const BATCH: usize = 24;
/// The same for those on vsock: each may take one of the VM's eight streams, one takes two.
const VSOCK_BATCH: usize = 7;

/// One attack as the guest lists it.
#[derive(Debug, Clone)]
pub struct Attack {
    pub class: String,
    pub name: String,
    /// The expected outcome, by its name in the guest.
    pub expected: String,
    pub cpus: u8,
    pub what: String,
    /// Its place in the class.
    index: usize,
}

impl Attack {
    /// Whether the guest may end, so that it gets a VM of its own.
    pub fn may_end(&self) -> bool {
        self.expected.starts_with("Ends") || self.is_free()
    }

    /// Whether anything may come of it for the guest.
    pub fn is_free(&self) -> bool {
        self.expected == "Free"
    }
}

/// Attacks for one VM.
#[derive(Debug)]
pub struct Batch {
    pub attacks: Vec<Attack>,
}

impl Batch {
    /// The guest's order: class, first, count.
    pub fn order(&self) -> String {
        let first = &self.attacks[0];
        format!("{}:{}:{}", first.class, first.index, self.attacks.len())
    }

    pub fn cpus(&self) -> u8 {
        self.attacks[0].cpus
    }
}

/// All of them.
pub struct Catalogue {
    pub attacks: Vec<Attack>,
}

impl Catalogue {
    /// Asks the guest.
    pub fn read() -> Self {
        let mut vmm = Setup::new(hostile_guest(), "hostile=list", 128).run();
        let text = vmm.console_until("done");
        let mut attacks: Vec<Attack> = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let &[class, name, expected, cpus, what] = fields.as_slice() else {
                continue;
            };
            let same = attacks.iter().filter(|attack| attack.class == class);
            attacks.push(Attack {
                index: same.count(),
                class: class.into(),
                name: name.into(),
                expected: expected.into(),
                cpus: cpus.parse().unwrap(),
                what: what.into(),
            });
        }
        Self { attacks }
    }

    /// The attacks of a class, each VM's together.
    pub fn batches(&self, class: &str) -> Vec<Batch> {
        let most = if class == "vsock" { VSOCK_BATCH } else { BATCH };
        let mut batches: Vec<Batch> = Vec::new();
        for attack in self.attacks.iter().filter(|attack| attack.class == class) {
            match batches.last_mut() {
                Some(last)
                    if last.attacks.len() < most
                        && !attack.may_end()
                        && !last.attacks[0].may_end()
                        && last.cpus() == attack.cpus =>
                {
                    last.attacks.push(attack.clone());
                }
                _ => batches.push(Batch {
                    attacks: vec![attack.clone()],
                }),
            }
        }
        assert!(!batches.is_empty(), "no class {class}");
        batches
    }

    /// One attack by its name.
    #[cfg(feature = "mutation")]
    pub fn one(&self, name: &str) -> Batch {
        let attack = self.attacks.iter().find(|attack| attack.name == name);
        let attack = attack.unwrap_or_else(|| panic!("no attack {name}")).clone();
        Batch {
            attacks: vec![attack],
        }
    }

    /// The list for readers.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "# {} attacks\n\nWhat the hostile guest does, and what must come of it. Written by \
             `hostile::the_catalogue_is_written_down` from the guest's own list; \
             [README.md](README.md) says how to add to it.\n",
            self.attacks.len()
        );
        let mut class = "";
        for attack in &self.attacks {
            if attack.class != class {
                class = &attack.class;
                let _ = write!(
                    text,
                    "\n## {class}\n\n| attack | does | comes to |\n|---|---|---|\n"
                );
            }
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                attack.name, attack.what, attack.expected
            );
        }
        text
    }
}
