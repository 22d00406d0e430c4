//! `casemate kernel`.

use super::import;
use super::{Kept, Store};
use crate::args::{ImportArgs, KernelArgs, KernelCommand, StateArgs};
use crate::{binaries, say};
use casemate_guest_image::bundle::Bundle;
use casemate_proto::status::OWN_FAILURE;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

type Failure = Box<dyn Error + Send + Sync>;

/// Exit status 0, or 125 with one line.
pub fn main(args: &KernelArgs) -> ExitCode {
    let done = match &args.command {
        KernelCommand::Import(args) => import(args),
        KernelCommand::List { state } => list(state),
        KernelCommand::Remove { name, state } => remove(state, name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say::line(e.to_string());
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let init = std::fs::read(binaries::find("casemate-init")?)?;
    let name = match &args.name {
        Some(name) => Some(
            name.to_str()
                .ok_or("--name is not text: give plain letters")?,
        ),
        None => None,
    };
    let state = &args.state.state_dir;
    let bundle = match (&args.package, &args.boot, &args.modules) {
        (Some(package), ..) => import::package(state, package, name, &init)?,
        (None, Some(boot), Some(modules)) => import::installed(state, boot, modules, name, &init)?,
        _ => return Err("give a package, or --boot and --modules".into()),
    };
    let store = Store::new(state);
    if args.default || store.default_name().is_none() {
        store.set_default(&bundle.description.name)?;
    }
    print(&describe(
        &bundle.description.name,
        &bundle,
        store.default_name().as_deref(),
    ))
}

fn list(state: &StateArgs) -> Result<(), Failure> {
    let store = Store::new(&state.state_dir);
    let default = store.default_name();
    let mut text = String::new();
    for Kept { name, bundle } in store.list()? {
        match bundle {
            Ok(bundle) => text.push_str(&describe(&name, &bundle, default.as_deref())),
            // Writing to a String cannot fail.
            Err(e) => drop(writeln!(text, "{name}  damaged: {e}")),
        }
    }
    print(&text)
}

fn remove(state: &StateArgs, name: &OsStr) -> Result<(), Failure> {
    Ok(Store::new(&state.state_dir).remove(name)?)
}

/// Name, release, what roots it mounts, and whether it is the default.
fn describe(name: &str, bundle: &Bundle, default: Option<&str>) -> String {
    let about = &bundle.description;
    let roots: Vec<&str> = about.rootfs.iter().map(|format| format.name()).collect();
    let mark = if default == Some(name) {
        "  (default)"
    } else {
        ""
    };
    format!(
        "{name}  Linux {}  mounts {}{mark}\n",
        about.release,
        roots.join(", ")
    )
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| format!("standard output: {e}").into())
}
