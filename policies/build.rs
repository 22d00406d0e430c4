//! Compiles the shipped policies to static arrays, so that nothing is parsed at
//! run time. A policy that is refused fails the build with its file and line.

use casemate_policy_compiler::{Compiled, compile};
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// Thread classes: the policy's file, and the name of its array.
const SHIPPED: [(&str, &str); 6] = [
    ("setup.toml", "SETUP"),
    ("main.toml", "MAIN"),
    ("vcpu.toml", "VCPU"),
    ("block.toml", "BLOCK"),
    ("vsock.toml", "VSOCK"),
    ("entropy.toml", "ENTROPY"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=vmm");
    let folder = Path::new("vmm");
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let mut code = String::new();
    let mut failed = false;
    for (file, name) in SHIPPED {
        match compile(file, &read) {
            Ok(compiled) => code += &array(name, &compiled),
            Err(error) => {
                failed = true;
                println!("cargo::error=policies/vmm/{error}");
            }
        }
    }
    if !failed {
        let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        fs::write(Path::new(&out).join("shipped.rs"), code).expect("OUT_DIR can be written");
    }
}

/// The Rust text of one policy's array.
fn array(name: &str, compiled: &Compiled) -> String {
    let mut code = format!("static {name}: Shipped = Shipped {{\n    program: &[\n");
    let mut digest = blake3::Hasher::new();
    for i in &compiled.program {
        digest.update(&i.code.to_le_bytes());
        digest.update(&[i.jt, i.jf]);
        digest.update(&i.k.to_le_bytes());
        let (op, jt, jf, k) = (i.code, i.jt, i.jf, i.k);
        _ = writeln!(
            code,
            "        sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},"
        );
    }
    code += "    ],\n    holes: &[";
    for hole in &compiled.holes {
        _ = write!(code, "({}, Role::{:?}), ", hole.index, hole.role);
    }
    let digest = digest.finalize();
    _ = writeln!(code, "],\n    digest: \"{digest}\",\n}};");
    code
}
