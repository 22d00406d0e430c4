//! Which QEMU runs the bed, and with which devices.

use crate::apt::{PrivateApt, SUITE};
use crate::cache::{Cache, Key};
use crate::error::{BedError, Result};
use crate::tool;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Memory of the bed: a guest of 5 GiB must fit beside the host's own.
pub const MEMORY: &str = "7G";
/// Processors of the bed.
pub const CPUS: &str = "2";

/// Kernel arguments of the bed. `panic=-1` and `-no-reboot`: a panic ends QEMU at once.
/// `no_timer_check`: on a busy machine the emulated timer is too late for the check,
/// and the kernel then looks for another one for ever.
pub const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable nokaslr \
                           audit=0 no_timer_check";

/// A QEMU that emulates x86-64.
#[derive(Clone, Debug)]
pub struct Qemu {
    binary: PathBuf,
    /// Folders of firmware and of libraries when not installed in the system.
    unpacked: Option<PathBuf>,
    /// First line of `--version`; a warm state belongs to one QEMU.
    pub version: String,
}

impl Qemu {
    /// Prefers QEMU 10 (it halves most times): the system's own if new enough, else the
    /// backport unpacked into the cache, else whatever the system has. `$CASEMATE_QEMU`
    /// names another binary.
    pub fn find(cache: &Cache) -> Result<Self> {
        if let Some(given) = std::env::var_os("CASEMATE_QEMU") {
            return Self::at(given.into(), None);
        }
        let system = Self::at(PathBuf::from("/usr/bin/qemu-system-x86_64"), None);
        if let Ok(qemu) = &system
            && qemu.major() >= 10
        {
            return system;
        }
        match Self::backport(cache) {
            Ok(qemu) => Ok(qemu),
            Err(why) => {
                let qemu = system?;
                eprintln!(
                    "testbed: using {}; the faster backport is not to be had: {why}",
                    qemu.version
                );
                Ok(qemu)
            }
        }
    }

    fn backport(cache: &Cache) -> Result<Self> {
        let name = format!("qemu-{}", Key::new("qemu", 1).with(SUITE).hex());
        let dir = cache.entry(&name, |half| {
            tool::step("fetching a newer QEMU from the backports", || {
                let apt = tempfile::tempdir_in(cache.tmp())
                    .map_err(BedError::io("create a folder in", cache.tmp()))?;
                PrivateApt::with_backports(apt.path().to_path_buf())?
                    .unpack_with_missing("qemu-system-x86", half)?;
                // A QEMU that does not start here must not be cached.
                Self::at(
                    half.join("usr/bin/qemu-system-x86_64"),
                    Some(half.to_path_buf()),
                )
                .map(drop)
            })
        })?;
        Self::at(dir.join("usr/bin/qemu-system-x86_64"), Some(dir))
    }

    fn at(binary: PathBuf, unpacked: Option<PathBuf>) -> Result<Self> {
        let mut qemu = Self {
            binary,
            unpacked,
            version: String::new(),
        };
        let text = tool::output("qemu --version", qemu.command().arg("--version"))?;
        qemu.version = text.lines().next().unwrap_or_default().to_owned();
        Ok(qemu)
    }

    /// Major version, 0 when it cannot be read.
    fn major(&self) -> u32 {
        self.version
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse().ok())
            .unwrap_or(0)
    }

    fn command(&self) -> Command {
        // Emulation is all computing: let the rest of the machine go first.
        let mut command = Command::new("nice");
        command.args(["-n", "5"]).arg(&self.binary);
        if let Some(dir) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", dir.join("usr/lib/x86_64-linux-gnu"));
            for data in ["usr/share/seabios", "usr/share/qemu"] {
                command.arg("-L").arg(dir.join(data));
            }
        }
        command
    }

    /// The command line of a bed with the given disks and connected sockets.
    ///
    /// The layout is fixed: a warm state can only be restored into the same machine.
    pub fn bed(&self, machine: &Machine<'_>) -> Command {
        let mut command = self.command();
        let share = if machine.memory_is_shared {
            "on"
        } else {
            "off"
        };
        command
            .args(["-M", "q35,memory-backend=ram", "-accel", "tcg,thread=multi"])
            .args(["-smp", CPUS, "-m", MEMORY, "-cpu", "max,la57=off"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-object")
            .arg(with_path(
                &format!("memory-backend-file,id=ram,size={MEMORY},share={share},mem-path="),
                machine.memory,
                "",
            ))
            .arg("-kernel")
            .arg(machine.kernel)
            .arg("-initrd")
            .arg(machine.initramfs)
            .args(["-append", CMDLINE])
            .args(["-device", "virtio-rng-pci"]);
        let disks = [
            (machine.root, "readonly=on"),
            (machine.input, "readonly=on"),
            (machine.assets, "readonly=on"),
            (machine.scratch, "cache=unsafe"),
        ];
        for (path, mode) in disks {
            command.arg("-drive").arg(with_path(
                "if=virtio,format=raw,file=",
                path,
                &format!(",{mode}"),
            ));
        }
        for (fd, name) in [(machine.qmp_fd, "qmp"), (machine.console_fd, "console")] {
            command.args(["-chardev", &format!("socket,id={name},fd={fd}")]);
        }
        command
            .args([
                "-mon",
                "chardev=qmp,mode=control",
                "-serial",
                "chardev:console",
            ])
            .args(["-device", "virtio-serial-pci,id=ports,max_ports=8"]);
        for (index, fd) in machine.port_fds.iter().enumerate() {
            let number = index + 1;
            command
                .args(["-chardev", &format!("socket,id=port{number},fd={fd}")])
                .arg("-device")
                .arg(format!(
                    "virtserialport,bus=ports.0,nr={number},chardev=port{number},name=port{number}"
                ));
        }
        if machine.restore {
            command.args(["-incoming", "defer"]);
        }
        command
    }
}

/// Number of virtio-serial ports: control, stdin, stdout, stderr, outputs.
pub const PORTS: usize = 5;

/// Everything that differs between two starts of the bed.
pub struct Machine<'a> {
    /// File behind the bed's memory.
    pub memory: &'a Path,
    /// Whether writes go to that file (while saving) or stay private (in a run).
    pub memory_is_shared: bool,
    /// The bed's kernel.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// Read-only root image.
    pub root: &'a Path,
    /// Input archive.
    pub input: &'a Path,
    /// Assets image.
    pub assets: &'a Path,
    /// Writable scratch image.
    pub scratch: &'a Path,
    /// Control protocol socket, inherited.
    pub qmp_fd: i32,
    /// Serial console socket, inherited.
    pub console_fd: i32,
    /// Port sockets, inherited.
    pub port_fds: [i32; PORTS],
    /// Start stopped and wait for a saved state.
    pub restore: bool,
}

/// `before` + path + `after`, with the path's commas doubled as QEMU wants it.
fn with_path(before: &str, path: &Path, after: &str) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{before}{path}{after}").into()
}
