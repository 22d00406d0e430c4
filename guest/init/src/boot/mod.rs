//! From the kernel's hand-over to a root that programs can run in.

pub mod cmdline;
pub mod early;
pub mod furnish;
pub mod memory;
pub mod modules;
pub mod mount;
pub mod pressure;
pub mod root;

use crate::console;
use thiserror::Error;

/// Why the guest could not be made ready.
#[derive(Debug, Error)]
pub enum BootError {
    /// The kernel's command line asks for something unknown.
    #[error(transparent)]
    Cmdline(#[from] cmdline::CmdlineError),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] mount::MountError),
    /// A kernel module was refused.
    #[error(transparent)]
    Modules(#[from] modules::ModuleError),
    /// The root image cannot be used.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// The new root could not be furnished.
    #[error(transparent)]
    Furnish(#[from] furnish::FurnishError),
}

/// Does all of it, in order.
pub fn boot() -> Result<(), BootError> {
    early::mount_all()?;
    console::open();
    pressure::prepare();
    let rootfs = cmdline::read()?;
    modules::load(&["base"])?;
    let memory = match rootfs {
        Some(format) => {
            modules::load(&[format.name()])?;
            let memory = root::enter(format)?;
            early::mount_all()?;
            memory
        }
        None => memory::Memory::mount()?,
    };
    furnish::furnish(&memory)?;
    Ok(())
}
