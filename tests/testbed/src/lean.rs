//! The lean guest kernel: Debian's kernel source, `make tinyconfig` and our list of symbols.

use crate::apt;
use crate::cache::{Cache, Key};
use crate::error::{BedError, Result};
use crate::tool;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The symbols that the kernel is to have.
const RECIPE: &str = include_str!("../../../guest/kernel/lean.config");
/// Debian's package of the kernel's source, and its name inside.
const SOURCE: &str = "linux-source-6.12";

/// A built lean kernel.
#[derive(Clone, Debug)]
pub struct LeanKernel {
    /// Uncompressed ELF, stripped.
    pub vmlinux: PathBuf,
    /// The same kernel as an LZ4-compressed bzImage.
    pub bzimage: PathBuf,
    /// Its final configuration.
    pub config: PathBuf,
}

impl LeanKernel {
    /// Takes the kernel from the cache, or builds it (about five minutes on two cores).
    pub fn get(cache: &Cache) -> Result<Self> {
        let symbols = parse(RECIPE)?;
        // The comments in the recipe do not change the kernel.
        let mut key = Key::new("lean-kernel", 1).with(SOURCE);
        for symbol in &symbols {
            key = key.with(symbol.line());
        }
        let hash = key.hex();
        let dir = cache.root().join("kernels");
        if let Some(built) = find(&dir, &hash) {
            return Ok(Self::at(&built));
        }
        let source = source(cache)?;
        let version = fs::read_to_string(source.join("version"))
            .map_err(BedError::io("read", source.join("version")))?;
        let name = format!("kernels/lean-{}-{hash}", version.trim());
        let built = cache.entry(&name, |half| {
            tool::step("building the lean guest kernel, about five minutes", || {
                build(&symbols, &source, half)
            })
        })?;
        Ok(Self::at(&built))
    }

    fn at(dir: &Path) -> Self {
        Self {
            vmlinux: dir.join("vmlinux"),
            bzimage: dir.join("bzImage"),
            config: dir.join("config"),
        }
    }
}

fn find(kernels: &Path, hash: &str) -> Option<PathBuf> {
    let suffix = format!("-{hash}");
    fs::read_dir(kernels)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("lean-") && name.ends_with(&suffix)
        })
}

/// Debian's source package: `source.tar.xz` and its version, "6.12.117".
fn source(cache: &Cache) -> Result<PathBuf> {
    let name = format!(
        "kernel-source-{}",
        Key::new("kernel-source", 1).with(SOURCE).hex()
    );
    cache.entry(&name, |half| {
        tool::step("fetching the kernel's source, 150 MB", || {
            let package = apt::newest(&format!("^{SOURCE}$"))?;
            let deb = apt::download(&package, half)?;
            let version = apt::version(&deb)?;
            let upstream = version.split('-').next().unwrap_or(&version);
            let write = half.join("version");
            fs::write(&write, upstream).map_err(BedError::io("write", &write))?;
            apt::unpack(&deb, half)?;
            let inside = half.join(format!("usr/src/{SOURCE}.tar.xz"));
            let fixed = half.join("source.tar.xz");
            fs::rename(&inside, &fixed).map_err(BedError::io("rename", &inside))?;
            fs::remove_dir_all(half.join("usr")).map_err(BedError::io("remove", half))?;
            fs::remove_file(&deb).map_err(BedError::io("remove", &deb))
        })
    })
}

fn build(symbols: &[Symbol], source: &Path, half: &Path) -> Result<()> {
    let tree = half.join("tree");
    fs::create_dir(&tree).map_err(BedError::io("create", &tree))?;
    tool::run(
        "unpacking the kernel's source",
        Command::new("tar")
            .arg("-xf")
            .arg(source.join("source.tar.xz"))
            .args(["--strip-components=1", "-C"])
            .arg(&tree),
    )?;
    tool::run("make tinyconfig", make(&tree).arg("tinyconfig"))?;
    let config = tree.join(".config");
    let mut text = read(&config)?;
    for symbol in symbols {
        text.push_str(&symbol.line());
        text.push('\n');
    }
    fs::write(&config, &text).map_err(BedError::io("write", &config))?;
    tool::run("make olddefconfig", make(&tree).arg("olddefconfig"))?;
    check(symbols, &read(&config)?)?;
    tool::run(
        "building the kernel",
        make(&tree).args(["bzImage", "vmlinux"]),
    )?;
    tool::run(
        "stripping the kernel",
        Command::new("strip")
            .arg("-o")
            .arg(half.join("vmlinux"))
            .arg(tree.join("vmlinux")),
    )?;
    for (from, to) in [("arch/x86/boot/bzImage", "bzImage"), (".config", "config")] {
        let from = tree.join(from);
        fs::copy(&from, half.join(to)).map_err(BedError::io("copy", &from))?;
    }
    fs::remove_dir_all(&tree).map_err(BedError::io("remove", &tree))
}

/// `make` that gives the same kernel on every machine, and lets others go first.
fn make(tree: &Path) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("nice");
    command
        .args(["-n", "10", "make", "-s"])
        .arg(format!("-j{jobs}"));
    command.args(["KBUILD_BUILD_USER=casemate", "KBUILD_BUILD_HOST=casemate"]);
    command.arg("KBUILD_BUILD_TIMESTAMP=1970-01-01");
    command.current_dir(tree);
    command
}

/// One line of the recipe.
#[derive(Debug, PartialEq, Eq)]
struct Symbol {
    name: String,
    /// As written after `=`; "n" means that it must not be set.
    value: String,
}

impl Symbol {
    fn line(&self) -> String {
        format!("{}={}", self.name, self.value)
    }

    /// Whether the final configuration has what the recipe asks for.
    fn holds(&self, config: &str) -> bool {
        let set = format!("{}=", self.name);
        let mut found = config.lines().filter_map(|line| line.strip_prefix(&set));
        match self.value.as_str() {
            "n" => found.next().is_none(),
            value => found.next() == Some(value),
        }
    }
}

fn parse(recipe: &str) -> Result<Vec<Symbol>> {
    let mut symbols: Vec<Symbol> = Vec::new();
    for line in recipe.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .filter(|(name, _)| name.starts_with("CONFIG_"))
            .ok_or_else(|| BedError::Recipe(format!("{line:?} is not CONFIG_NAME=value")))?;
        if symbols.iter().any(|s| s.name == name) {
            return Err(BedError::Recipe(format!("{name} is given twice")));
        }
        symbols.push(Symbol {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(symbols)
}

fn check(symbols: &[Symbol], config: &str) -> Result<()> {
    let dropped: Vec<String> = symbols
        .iter()
        .filter(|symbol| !symbol.holds(config))
        .map(Symbol::line)
        .collect();
    if dropped.is_empty() {
        return Ok(());
    }
    Err(BedError::DroppedSymbols(dropped.join(", ")))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(BedError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_symbol_is_an_error() {
        let symbols = parse("# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_N=64\n").unwrap();
        let good = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=64\n";
        check(&symbols, good).unwrap();
        for bad in [
            "CONFIG_N=64\n",
            "CONFIG_A=m\nCONFIG_N=64\n",
            "CONFIG_A=y\nCONFIG_B=y\nCONFIG_N=64\n",
            "CONFIG_A=y\nCONFIG_N=8\n",
        ] {
            assert!(check(&symbols, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_recipe_itself_is_well_formed() {
        let symbols = parse(RECIPE).unwrap();
        assert!(symbols.iter().any(|s| s.line() == "CONFIG_ACPI=y"));
        assert!(parse("CONFIG_A=y\nCONFIG_A=n\n").is_err());
        assert!(parse("A=y\n").is_err());
    }
}
