//! What strace(1) wrote, and the places for faults in it.

use std::collections::BTreeMap;
use std::fmt;

/// Most calls of one name that are all tried; of more, the first and the last few are: the
/// others are turns of a loop.
const LOOP: u32 = 32;
const OF_A_LOOP: u32 = 8;

/// One call of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Whether the processes that the first one starts are traced, too; each counts its own
    /// calls. If not, the fault is the first one's alone.
    pub follow: bool,
    /// Name.
    pub call: String,
    /// Which one of that name, from 1.
    pub nth: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.follow {
            "a child's"
        } else {
            "the first's"
        };
        write!(f, "{who} {} {}", self.call, self.nth)
    }
}

/// (pid, call's name, the whole of what was written) of each call that begins.
fn calls(trace: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    trace.lines().filter_map(|line| {
        let (pid, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let (name, _) = rest.split_once('(')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.chars().all(plain).then_some((pid, name, rest))
    })
}

/// Whether this is the call that begins the program.
fn begins(call: &str, rest: &str, program: &str) -> bool {
    call.starts_with("execve") && rest.contains(program)
}

/// All calls up to the program's exec.
pub fn points(trace: &str, program: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(bool, String), u32> = BTreeMap::new();
    let mut own: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut over: Vec<&str> = Vec::new();
    let first = calls(trace).next().map_or("", |(pid, _, _)| pid);
    for (pid, call, rest) in calls(trace) {
        if pid != first && over.contains(&pid) {
            continue;
        }
        if pid != first && begins(call, rest, program) {
            over.push(pid);
        }
        let nth = own.entry((pid, call)).or_default();
        *nth += 1;
        let most = counts.entry((pid != first, call.to_owned())).or_default();
        *most = (*most).max(*nth);
    }
    // Processes of the program's own come after its exec.
    let all = counts.into_iter().flat_map(|((follow, call), most)| {
        (1..=most)
            .filter(move |&n| most <= LOOP || n <= OF_A_LOOP || n > most - OF_A_LOOP)
            .map(move |nth| Point {
                follow,
                call: call.clone(),
                nth,
            })
    });
    all.collect()
}

/// Whether the fault came about.
pub fn hit(trace: &str, kill: bool) -> bool {
    match kill {
        true => trace.contains("+++ killed by SIGKILL +++"),
        false => trace.contains("(INJECTED)"),
    }
}

/// Whether the program had begun when the fault came.
pub fn had_started(trace: &str, program: &str) -> bool {
    trace
        .lines()
        .take_while(|line| !line.contains("(INJECTED)") && !line.contains("+++ killed"))
        .any(|line| {
            let call = line
                .split_once(' ')
                .map_or("", |(_, rest)| rest.trim_start());
            begins(call, line, program)
        })
}

#[test]
fn the_places_are_counted_by_process_up_to_the_exec() {
    let trace = "\
7 execve(\"/casemate\", [], 0x0) = 0
7 read(3, \"\", 1) = 0
8 read(4,  <unfinished ...>
7 read(3, \"\", 1) = 0
8 <... read resumed>\"\", 1) = 0
8 execve(\"/bin/sh\", [], 0x0) = 0
8 read(5, \"\", 1) = 0
7 +++ exited with 0 +++
";
    let found: Vec<String> = points(trace, "execve(\"/bin/sh\"")
        .iter()
        .map(ToString::to_string)
        .collect();
    let wanted = [
        "the first's execve 1",
        "the first's read 1",
        "the first's read 2",
        "a child's execve 1",
        "a child's read 1",
    ];
    assert_eq!(found, wanted);
}
