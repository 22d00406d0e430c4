//! The shape of a policy file, before names are given their meaning.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// One policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyFile {
    /// Files of the same folder whose rules this one has too.
    #[serde(default)]
    pub(crate) include: Vec<Spanned<String>>,
    /// Roles of which the thread holds exactly one fd, told when the filter is installed.
    #[serde(default)]
    pub(crate) own: Vec<Spanned<String>>,
    /// What the thread may call.
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Spanned<RuleEntry>>,
}

/// One `[[rule]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEntry {
    pub(crate) syscall: Spanned<Words>,
    pub(crate) fd: Option<Spanned<Words>>,
    #[serde(default)]
    pub(crate) args: BTreeMap<Spanned<String>, Spanned<ArgEntry>>,
    pub(crate) errno: Option<Spanned<String>>,
    pub(crate) why: Option<Spanned<String>>,
}

/// One name, or a list of alternatives.
#[derive(Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

/// What an argument must be.
#[derive(Debug)]
pub(crate) enum ArgEntry {
    /// Equal to one of these.
    Words(Words),
    /// Bits compared under a mask.
    Bits(BitsEntry),
}

/// Conditions on the bits of an argument; exactly one key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BitsEntry {
    /// No bit outside of these.
    Only(String),
    /// None of these bits.
    NoneOf(String),
    /// All of these bits.
    AllOf(String),
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E>(self, word: &str) -> Result<Words, E> {
        Ok(Words(vec![word.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Words(words))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct ArgVisitor;

impl<'de> Visitor<'de> for ArgVisitor {
    type Value = ArgEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a constant, a list of constants, or one of { only | none-of | all-of = … }")
    }

    fn visit_str<E>(self, word: &str) -> Result<ArgEntry, E> {
        Ok(ArgEntry::Words(Words(vec![word.to_owned()])))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ArgEntry, A::Error> {
        WordsVisitor.visit_seq(list).map(ArgEntry::Words)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ArgEntry, A::Error> {
        BitsEntry::deserialize(MapAccessDeserializer::new(map)).map(ArgEntry::Bits)
    }
}

impl<'de> Deserialize<'de> for ArgEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgVisitor)
    }
}
