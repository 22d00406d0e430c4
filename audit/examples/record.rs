//! A writer in a process of its own, for tests that kill it, start many, or fill its disk.
//!
//! ```text
//! record write FOLDER N      N commits of three lines each; status 3 when one is refused
//! record check FOLDER        prints what the verifier says; status 1 when it finds anything
//! ```

use casemate_audit::event::{Cleared, Limit, LimitHit, Refused};
use casemate_audit::verify::{Evidence, Options, verify};
use casemate_audit::{Event, PUBLIC, Recorder, Settings, Who, key_folder};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder, commits] => write(Path::new(folder), commits.parse()?),
        ["check", folder] => check(Path::new(folder)),
        _ => Err("usage: record write FOLDER N | record check FOLDER".into()),
    }
}

fn write(folder: &Path, commits: usize) -> Result<ExitCode, Box<dyn Error>> {
    let mut settings = Settings::of(folder);
    settings.file_bytes = 16 << 10;
    for n in 0..commits {
        let who = Who {
            tenant: "acme".parse()?,
            id: format!("{}-{n}", std::process::id()).parse()?,
        };
        let committed = Recorder::open(&settings, who).and_then(|mut recorder| {
            recorder.add(Event::Cleared(Cleared { process: None }));
            recorder.add(Event::Limit(LimitHit {
                limit: Limit::Time,
                detail: "2 s".to_owned(),
            }));
            recorder.add(Event::Refused(Refused {
                layer: None,
                message: format!("the {n}th"),
            }));
            recorder.commit()
        });
        if let Err(e) = committed {
            eprintln!("{e}");
            return Ok(ExitCode::from(3));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let key = std::fs::read_to_string(key_folder(folder).join(PUBLIC))?.parse()?;
    let verdict = verify(Evidence::of_folder(folder)?, &key, &Options::default())?;
    for note in &verdict.notes {
        println!("note: {note}");
    }
    for finding in &verdict.findings {
        println!("{finding}");
    }
    println!("{} lines", verdict.lines);
    Ok(ExitCode::from(u8::from(!verdict.is_whole())))
}
