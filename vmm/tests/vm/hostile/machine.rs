//! A VM with every device, and one batch of attacks on it.

use super::catalogue::{Attack, Batch};
use super::host;
use super::oracle::Oracle;
use crate::bare::{Setup, Vmm};
use casemate_proto::control::{Ended, FromVmm, ToVmm};
use casemate_tests::hostile_guest;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Length of the writable disk: more than what a request may move.
const DISK: u64 = 128 << 20;
/// Length of the read-only disk.
const ROM: u32 = 2 << 20;
/// The first port of the host's that leads somewhere, and how many do.
const FIRST_PORT: u32 = 1000;
const STREAMS: u32 = 8;
/// Where in its memory the guest waits for the host's word.
const MAILBOX: u64 = 0xf0_0000;
/// Longest silence of a guest that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where a check is off, and silence is a way to notice it.
const PATIENCE_MUTATED: Duration = Duration::from_secs(20);
/// After so long a silence, a guest that may do anything to itself has ended itself.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long the end of a VMM may take.
const ENDING: Duration = Duration::from_secs(2);

/// Both disks and the VMM.
struct Machine {
    vmm: Vmm,
    oracle: Oracle,
    disk: File,
    rom: File,
    heard: Vec<u8>,
}

/// What came from the guest.
enum Word {
    Line(String),
    Silence,
    /// The console is closed: the VMM is ending.
    End,
}

/// Carries out a batch; the VMM has one named check off, if any.
///
/// # Errors
/// All that went wrong, attack by attack.
pub fn carry_out(batch: &Batch, mutation: Option<&str>) -> Result<(), String> {
    let mut machine = Machine::start(batch, mutation)?;
    let mut failures = Vec::new();
    let mut number = 0;
    loop {
        let attack: &Attack = &batch.attacks[usize::min(number, batch.attacks.len() - 1)];
        let name = &attack.name;
        let patience = match (attack.is_free(), mutation) {
            (true, _) => SILENCE,
            (false, None) => PATIENCE,
            (false, Some(_)) => PATIENCE_MUTATED,
        };
        match machine.word(patience)? {
            Word::Line(line) if line.starts_with("begin ") => machine.oracle.begin(),
            Word::Line(line) if line.starts_with("rest ") => {
                let next = number as u32 + 1;
                let looked = machine.judge();
                let told = looked.and_then(|()| machine.oracle.tell_guest(MAILBOX, next));
                match told {
                    Ok(()) => {}
                    // Another vCPU has ended the guest since: its last word comes next.
                    Err(_) if attack.may_end() && machine.has_ended() => {}
                    Err(wrong) => {
                        failures.push(format!("{name}: {wrong}"));
                        let _ = machine.oracle.tell_guest(MAILBOX, next);
                    }
                }
            }
            Word::Line(line) if line.starts_with("end ") => {
                number += 1;
                if attack.is_free() {
                    println!("{name}: the guest goes on");
                }
                if !line.ends_with(" ok") {
                    failures.push(line);
                }
            }
            Word::Line(line) if line == "done" => {
                let looked = machine.judge();
                if let Err(wrong) = looked.and_then(|()| machine.oracle.halted()) {
                    failures.push(format!("at the end: {wrong}"));
                }
                break;
            }
            Word::Line(line) if line.starts_with("hostile: ") || line.starts_with("no ") => {
                failures.push(format!("{name}: {line}"));
            }
            Word::Line(_) => {}
            Word::Silence if !attack.is_free() => {
                failures.push(format!("{name}: the guest is silent"));
                break;
            }
            Word::Silence => match machine.judge() {
                Ok(()) => {
                    println!("{name}: the guest is silent");
                    break;
                }
                Err(_) if machine.has_ended() => {}
                Err(wrong) => {
                    failures.push(format!("{name}: {wrong}"));
                    break;
                }
            },
            Word::End => {
                if let Err(wrong) = machine.ended_as(name, &attack.expected) {
                    failures.push(format!("{name}: {wrong}"));
                }
                return machine.disks(failures);
            }
        }
    }
    // However the guest has ended up, its VMM obeys.
    machine.vmm.close_control();
    if !machine.vmm.wait().success() {
        failures.push("the VMM did not end as told".into());
    }
    machine.disks(failures)
}

impl Machine {
    fn start(batch: &Batch, mutation: Option<&str>) -> Result<Self, String> {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(DISK).unwrap();
        let mut rom = tempfile::NamedTempFile::new().unwrap();
        rom.write_all(&numbers()).unwrap();
        let read_only = File::open(rom.path()).unwrap();
        // Without a name from here on: the VMM's list of fds must not change.
        let rom = rom.into_file();
        let order = format!("hostile={}", batch.order());
        let mut setup = Setup::new(hostile_guest(), &order, 128)
            .disk(disk.try_clone().unwrap(), false)
            .disk(read_only, true);
        setup.config.vcpus = batch.cpus();
        setup.config.entropy = true;
        setup.arguments = mutation
            .map(|name| format!("--mutate={name}"))
            .into_iter()
            .collect();
        for port in FIRST_PORT..FIRST_PORT + STREAMS {
            host::serve(setup.stream(port));
        }
        let mut vmm = setup.start();
        let ready = vmm.ready();
        let oracle = Oracle::new(vmm.pid(), &ready)?;
        fcntl(vmm.log.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        vmm.send(&ToVmm::Go);
        Ok(Self {
            vmm,
            oracle,
            disk,
            rom,
            heard: Vec::new(),
        })
    }

    /// What comes next from the guest.
    fn word(&mut self, patience: Duration) -> Result<Word, String> {
        let mut part = [0; 65536];
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(Word::Line(String::from_utf8_lossy(&line).trim_end().into()));
            }
            let mut fds = [PollFd::new(self.vmm.console.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap();
            if poll(&mut fds, timeout).map_err(|e| e.to_string())? == 0 {
                return Ok(Word::Silence);
            }
            match self.vmm.console.read(&mut part) {
                Ok(0) => return Ok(Word::End),
                Ok(count) => self.heard.extend_from_slice(&part[..count]),
                Err(error) => return Err(format!("console: {error}")),
            }
        }
    }

    /// Whether the VMM has ended, or does so in a moment.
    fn has_ended(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < ENDING {
            if matches!(self.vmm.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// What the oracle says, and how much was logged.
    fn judge(&mut self) -> Result<(), String> {
        let log = self.log();
        self.oracle.logged(log.len())?;
        self.oracle.judge()
    }

    fn log(&mut self) -> String {
        let mut log = Vec::new();
        // Up to what is there now: the pipe does not block.
        let _ = self.vmm.log.read_to_end(&mut log);
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The VMM has ended, and says why.
    fn ended_as(&mut self, name: &str, expected: &str) -> Result<(), String> {
        let said = self.vmm.receive();
        if expected == "Free" {
            println!("{name}: {said:?}");
        }
        let status = self.vmm.wait();
        let log = self.log();
        self.oracle.logged(log.len())?;
        let well = match (&said, expected) {
            (Some(FromVmm::Ended(Ended::Reset)), "EndsInReset" | "Free") => true,
            (Some(FromVmm::Ended(Ended::TripleFault)), "EndsInTripleFault" | "Free") => true,
            // KVM gives up on what the guest did: the guest's end, and no more.
            (Some(FromVmm::Ended(Ended::Failed { .. })), "Free") => true,
            _ => false,
        };
        if well && status.success() {
            return Ok(());
        }
        Err(format!(
            "the VMM ended with {said:?} ({status}), log: {log:?}"
        ))
    }

    /// The disks are as long as they were, and the read-only one is as it was.
    fn disks(self, mut failures: Vec<String>) -> Result<(), String> {
        if self.disk.metadata().unwrap().len() != DISK {
            failures.push("the disk has another length".into());
        }
        let mut now = vec![0; ROM as usize];
        let whole = self.rom.read_exact_at(&mut now, 0).is_ok();
        if !whole || now != numbers() {
            failures.push("the read-only disk has changed".into());
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(failures.join("\n")),
        }
    }
}

/// The read-only disk: each 32-bit word is its own number.
fn numbers() -> Vec<u8> {
    (0..ROM / 4).flat_map(u32::to_le_bytes).collect()
}
