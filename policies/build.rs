//! Compiles the shipped policies to constants, so that nothing is parsed at run time. A
//! policy that is refused fails the build with its file and line.

#[path = "build/emit.rs"]
mod emit;

use casemate_policy_compiler::{Readers, compile, compile_policy};
use std::path::Path;
use std::{env, fs};

/// Thread classes: the policy's file, and the name of its constant.
const THREADS: [(&str, &str); 6] = [
    ("setup.toml", "SETUP"),
    ("main.toml", "MAIN"),
    ("vcpu.toml", "VCPU"),
    ("block.toml", "BLOCK"),
    ("vsock.toml", "VSOCK"),
    ("entropy.toml", "ENTROPY"),
];

/// Whole policies.
const JAIL: [(&str, &str); 3] = [
    ("strict.toml", "STRICT"),
    ("default.toml", "DEFAULT"),
    ("network.toml", "NETWORK"),
];

/// The jail around a VMM.
const CELL: (&str, &str) = ("cell.toml", "CELL");

/// The jail's own first process.
const INIT: (&str, &str) = ("init.toml", "INIT");

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let mut code = String::new();
    let mut failed = false;
    let mut take =
        |folder: &str, outcome: Result<String, casemate_policy_compiler::Error>| match outcome {
            Ok(constant) => code += &constant,
            Err(error) => {
                failed = true;
                println!("cargo::error=policies/{folder}/{error}");
            }
        };

    let folder = |folder: &'static str| {
        println!("cargo::rerun-if-changed={folder}");
        move |name: &str| fs::read_to_string(Path::new(folder).join(name))
    };
    let vmm = folder("vmm");
    for (file, name) in THREADS {
        take(
            "vmm",
            compile(file, &vmm).map(|compiled| emit::threads(name, &compiled)),
        );
    }
    let readers = Readers {
        folder: &vmm,
        shipped: &vmm,
    };
    let cell = compile_policy(CELL.0, readers);
    take(
        "vmm",
        cell.map(|compiled| emit::policy(CELL.1, &compiled.policy)),
    );
    let jail = folder("jail");
    let readers = Readers {
        folder: &jail,
        shipped: &jail,
    };
    for (file, name) in JAIL {
        let compiled = compile_policy(file, readers);
        take(
            "jail",
            compiled.map(|compiled| emit::policy(name, &compiled.policy)),
        );
    }
    let init = compile(INIT.0, &jail);
    take("jail", init.map(|compiled| emit::filter(INIT.1, &compiled)));
    for name in ["vmm", "jail"] {
        code += &emit::sources(name, Path::new(name));
    }

    if !failed {
        let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        fs::write(Path::new(&out).join("shipped.rs"), code).expect("OUT_DIR can be written");
    }
}
