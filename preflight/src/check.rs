//! What one check says.

use casemate_proto::cell::Layer;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Runs work; something is weaker than it could be.
    Warn,
    /// Runs are refused.
    Fail,
}

/// One property of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, lower case with dashes.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What is there.
    pub found: String,
    /// What that means for a run.
    pub consequence: String,
    /// What to do about it; absent where nothing needs doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The layers that cannot be had: `--allow-missing` with all of them lets a
    /// run go on. Empty on a failure that nothing can talk away.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub missing: BTreeSet<Layer>,
}

impl Check {
    /// A check that came out as it should.
    pub fn ok(
        name: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            consequence: consequence.into(),
            remedy: None,
            missing: BTreeSet::new(),
        }
    }

    /// A check of which something is weaker than it could be.
    pub fn warn(
        name: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(name, found, consequence)
        }
    }

    /// A check that stops a run.
    pub fn fail(
        name: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(name, found, consequence, remedy)
        }
    }

    /// The same, on account of these layers.
    #[must_use]
    pub fn missing(mut self, layers: impl IntoIterator<Item = Layer>) -> Self {
        self.missing.extend(layers);
        self
    }

    /// Whether this stops a run in which `allowed` layers may be missing.
    pub fn stops(&self, allowed: &BTreeSet<Layer>) -> bool {
        self.status == Status::Fail && (self.missing.is_empty() || !self.missing.is_subset(allowed))
    }
}

/// One line: name, what is there, the consequence, the remedy.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.name, self.found, self.consequence)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The outcome of several checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preflight {
    /// In order.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// The first check that stops a run in which `allowed` layers may be missing.
    pub fn obstacle(&self, allowed: &BTreeSet<Layer>) -> Option<&Check> {
        self.checks.iter().find(|check| check.stops(allowed))
    }

    /// Whether a run with every layer can work.
    pub fn can_run(&self) -> bool {
        self.obstacle(&BTreeSet::new()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stops_unless_its_layers_are_allowed() {
        let check = Check::fail("x", "a", "b", "c").missing([Layer::NetNs, Layer::PidNs]);
        assert!(check.stops(&BTreeSet::new()));
        assert!(check.stops(&BTreeSet::from([Layer::NetNs])));
        assert!(!check.stops(&BTreeSet::from([Layer::NetNs, Layer::PidNs])));
        let hard = Check::fail("x", "a", "b", "c");
        assert!(hard.stops(&BTreeSet::from(Layer::ALL)));
        assert!(!Check::warn("x", "a", "b", "c").stops(&BTreeSet::new()));
    }

    #[test]
    fn one_line_names_object_consequence_and_remedy() {
        assert_eq!(Check::fail("x", "a", "b", "c").to_string(), "x: a: b; c");
        assert_eq!(Check::ok("x", "a", "b").to_string(), "x: a: b");
    }
}
