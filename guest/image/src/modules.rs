//! Which modules a guest needs of a `/lib/modules/RELEASE` tree, and in which order.
//!
//! Dependencies are read from the modules themselves (`depends`, `softdep`), so
//! that the tree of a package works before `depmod` has run on it.

use crate::decompress::{self, DecompressError};
use crate::modinfo::{self, Modinfo, ModinfoError, normal};
use crate::rootfs::RootfsFormat;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest module that is taken, in bytes.
const MAX_MODULE: usize = 64 << 20;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 16;

/// Longest chain of modules that need each other; real ones are of five.
const MAX_CHAIN: usize = 64;

/// Loaded in every guest; a kernel that lacks one cannot be used.
const BASE: [&str; 4] = [
    "virtio_mmio",
    "virtio_blk",
    "vmw_vsock_virtio_transport",
    "overlay",
];
/// Loaded where they are there.
const BASE_OPTIONAL: [&str; 1] = ["virtio_rng"];
/// Aliases in soft dependencies, for trees without `modules.alias`: who provides them.
const PROVIDERS: [(&str, &[&str]); 1] = [("crc32c", &["crc32c_generic", "crc32c_intel"])];

/// Why no set could be made.
#[derive(Debug, Error)]
pub enum ModulesError {
    /// The tree cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel has it neither as a module nor built in.
    #[error(
        "the kernel of {tree} has no {name}{}: a guest cannot run on it; take a kernel with it",
        needed_by(.by)
    )]
    Missing {
        /// The tree.
        tree: PathBuf,
        /// The module.
        name: String,
        /// Who needs it, where it is a dependency.
        by: Option<String>,
    },
    /// A compressed module does not unpack.
    #[error("module {path}: {source}")]
    Decompress {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecompressError,
    },
    /// The file is no module.
    #[error("module {path}: {source}")]
    Modinfo {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModinfoError,
    },
    /// Dependencies without end.
    #[error("module {name}: more than {MAX_CHAIN} modules need each other: the tree is damaged")]
    Chain {
        /// The module.
        name: String,
    },
    /// Built for another kernel.
    #[error(
        "module {path} is for Linux {module}, and the kernel is {kernel}: give the modules of the same package"
    )]
    Release {
        /// The file.
        path: PathBuf,
        /// Its release.
        module: String,
        /// The kernel's.
        kernel: String,
    },
}

fn needed_by(by: &Option<String>) -> String {
    by.as_ref()
        .map_or_else(String::new, |by| format!(" (needed by {by})"))
}

/// The modules of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleSet {
    /// File names by group, in the order to load them: `base` first, then a group
    /// for each root format that has modules.
    pub groups: Vec<(String, Vec<String>)>,
    /// Contents by file name, uncompressed.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Root formats that this kernel can mount.
    pub formats: Vec<RootfsFormat>,
}

impl ModuleSet {
    /// For a kernel with everything built in.
    pub fn none() -> Self {
        Self {
            formats: RootfsFormat::ALL.to_vec(),
            ..Self::default()
        }
    }

    /// The text of `/modules/order`: `group: a.ko b.ko` a line.
    pub fn order(&self) -> String {
        self.groups
            .iter()
            .map(|(group, files)| format!("{group}: {}\n", files.join(" ")))
            .collect()
    }
}

/// Collects what a guest needs of `tree` (a `/lib/modules/RELEASE`), for the kernel `release`.
pub fn collect(tree: &Path, release: &str) -> Result<ModuleSet, ModulesError> {
    let mut collector = Collector {
        tree,
        release,
        index: Index::of(tree)?,
        loaded: HashSet::new(),
        chain: 0,
        set: ModuleSet::default(),
    };
    let mut order = Vec::new();
    for name in BASE {
        collector.add(name, None, &mut order)?;
    }
    for name in BASE_OPTIONAL {
        if collector.index.has(name) {
            collector.add(name, None, &mut order)?;
        }
    }
    collector.set.groups.push(("base".to_owned(), order));
    let base = collector.loaded.clone();
    for format in RootfsFormat::ALL {
        // Each group stands alone beside the base.
        collector.loaded.clone_from(&base);
        if collector.index.has(format.name()) {
            let mut order = Vec::new();
            collector.add(format.name(), None, &mut order)?;
            collector.set.formats.push(format);
            if !order.is_empty() {
                collector.set.groups.push((format.name().to_owned(), order));
            }
        }
    }
    Ok(collector.set)
}

/// What the tree has.
struct Index {
    modules: HashMap<String, PathBuf>,
    builtin: HashSet<String>,
    aliases: HashMap<String, Vec<String>>,
}

impl Index {
    fn of(tree: &Path) -> Result<Self, ModulesError> {
        let mut modules = HashMap::new();
        walk(tree, MAX_DEPTH, &mut modules)?;
        let builtin = optional_text(&tree.join("modules.builtin"))?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
        for line in optional_text(&tree.join("modules.alias"))?.lines() {
            if let ["alias", alias, module] = line.split(' ').collect::<Vec<_>>()[..] {
                let providers = aliases.entry(normal(alias)).or_default();
                providers.push(normal(module));
            }
        }
        Ok(Self {
            modules,
            builtin,
            aliases,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.modules.contains_key(name) || self.builtin.contains(name)
    }

    /// The modules meant by a soft dependency: the name itself, or an alias of others.
    fn providers(&self, name: &str) -> Vec<String> {
        if self.has(name) {
            return vec![name.to_owned()];
        }
        let known = PROVIDERS.iter().filter(|(alias, _)| *alias == name);
        let known = known.flat_map(|(_, modules)| modules.iter().map(|m| (*m).to_owned()));
        let mut all: Vec<String> = self.aliases.get(name).cloned().unwrap_or_default();
        all.extend(known);
        all.retain(|module| self.modules.contains_key(module));
        all
    }
}

struct Collector<'a> {
    tree: &'a Path,
    release: &'a str,
    index: Index,
    loaded: HashSet<String>,
    /// How many calls of [`Self::add`] are under way.
    chain: usize,
    set: ModuleSet,
}

impl Collector<'_> {
    /// Adds a module after all it depends on.
    fn add(
        &mut self,
        name: &str,
        by: Option<&str>,
        order: &mut Vec<String>,
    ) -> Result<(), ModulesError> {
        let Some(path) = self.index.modules.get(name).cloned() else {
            if self.index.builtin.contains(name) {
                return Ok(());
            }
            return Err(ModulesError::Missing {
                tree: self.tree.to_owned(),
                name: name.to_owned(),
                by: by.map(str::to_owned),
            });
        };
        // Marked before its needs are followed: a circle ends here.
        if !self.loaded.insert(name.to_owned()) {
            return Ok(());
        }
        if self.chain == MAX_CHAIN {
            return Err(ModulesError::Chain {
                name: name.to_owned(),
            });
        }
        self.chain += 1;
        let (content, info) = self.read(&path)?;
        for soft in &info.soft_before {
            for provider in self.index.providers(soft) {
                self.add(&provider, Some(name), order)?;
            }
        }
        for needed in &info.depends {
            self.add(needed, Some(name), order)?;
        }
        self.chain -= 1;
        let file = format!("{name}.ko");
        order.push(file.clone());
        self.set.files.insert(file, content);
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<(Vec<u8>, Modinfo), ModulesError> {
        let bytes = read(path)?;
        let content = if crate::kernel::is_elf(&bytes) {
            bytes
        } else {
            decompress::detect(&bytes)
                .and_then(|format| decompress::decompress(format, &bytes, MAX_MODULE))
                .map_err(|source| ModulesError::Decompress {
                    path: path.to_owned(),
                    source,
                })?
        };
        let info = modinfo::read(&content).map_err(|source| ModulesError::Modinfo {
            path: path.to_owned(),
            source,
        })?;
        if info.release != self.release {
            return Err(ModulesError::Release {
                path: path.to_owned(),
                module: info.release,
                kernel: self.release.to_owned(),
            });
        }
        Ok((content, info))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ModulesError> {
    fs::read(path).map_err(|source| ModulesError::Read {
        path: path.to_owned(),
        source,
    })
}

fn optional_text(path: &Path) -> Result<String, ModulesError> {
    match read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(ModulesError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        Err(e) => Err(e),
    }
}

/// `virtio_rng` of `…/virtio-rng.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, packed) = file.split_once(".ko")?;
    matches!(packed, "" | ".xz" | ".zst" | ".gz").then(|| normal(name))
}

/// Lists the modules below `folder`. Symbolic links (`build`, `source`) are not followed.
fn walk(
    folder: &Path,
    depth: usize,
    found: &mut HashMap<String, PathBuf>,
) -> Result<(), ModulesError> {
    let error = |source| ModulesError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let kind = entry.file_type().map_err(error)?;
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, found)?;
        } else if kind.is_file()
            && let Some(name) = module_name(&path)
        {
            found.insert(name, path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "modules_test.rs"]
mod tests;
