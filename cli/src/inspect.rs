//! `casemate inspect --effective`: what was declared of a running cell beside what the
//! kernel says of it now.

use crate::args::RunDirArgs;
use crate::say;
use casemate_jailer::inspect::{Inspection, inspect};
use casemate_proto::cell::Strength;
use casemate_proto::id::{CellId, TenantId};
use casemate_proto::status::OWN_FAILURE;
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// `casemate inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The running cell or jail whose confinement is looked at
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub effective: String,

    /// Whose it is
    #[arg(
        long,
        value_name = "T",
        default_value = "default",
        allow_hyphen_values = true
    )]
    pub tenant: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Where it is.
    #[command(flatten)]
    pub run_dir: RunDirArgs,
}

/// 0: every layer holds; 1: one does not; 125: there was nothing to look at.
pub fn main(args: &InspectArgs) -> ExitCode {
    match look(args) {
        Ok(inspection) => {
            let text = match args.json {
                true => serde_json::to_string_pretty(&inspection)
                    .map(|text| text + "\n")
                    .unwrap_or_default(),
                false => table(&inspection),
            };
            let holds = inspection.layers.iter().all(|layer| layer.holds);
            match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::from(u8::from(!holds)),
                Err(e) => {
                    say::line(format!("standard output: {e}"));
                    ExitCode::from(OWN_FAILURE)
                }
            }
        }
        Err(words) => {
            say::line(words);
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn look(args: &InspectArgs) -> Result<Inspection, String> {
    let tenant: TenantId = args.tenant.parse().map_err(|e| format!("--{e}"))?;
    let id: CellId = args
        .effective
        .parse()
        .map_err(|e| format!("--effective: {e}"))?;
    let run_dir = args.run_dir.folder()?;
    inspect(&run_dir, &tenant, &id).map_err(|e| e.to_string())
}

fn table(inspection: &Inspection) -> String {
    let mut text = format!(
        "{}/{}: process {}, policy {} {}\n",
        inspection.tenant, inspection.id, inspection.pid, inspection.policy, inspection.digest
    );
    for layer in &inspection.layers {
        let sign = match layer.holds {
            true => "holds",
            false => "DIFFERS",
        };
        _ = writeln!(text, "{:16} {sign}", layer.layer.name());
        _ = writeln!(text, "    declared  {}", say::plain(&layer.declared));
        _ = writeln!(text, "    observed  {}", say::plain(&layer.observed));
        if let Strength::Weaker { why } = &layer.strength {
            _ = writeln!(text, "    weaker    {}", say::plain(why));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_proto::cell::{Layer, LayerReport};

    #[test]
    fn a_difference_stands_out_and_stays_one_line() {
        let inspection = Inspection {
            tenant: "t".parse().unwrap(),
            id: "i".parse().unwrap(),
            policy: "default".to_owned(),
            digest: "abc".to_owned(),
            pid: 7,
            layers: vec![LayerReport {
                layer: Layer::Umask,
                declared: "077".to_owned(),
                observed: "0\n22".to_owned(),
                holds: false,
                strength: Strength::Weaker {
                    why: "of a user's".to_owned(),
                },
            }],
        };
        let text = table(&inspection);
        assert!(text.contains("umask            DIFFERS"), "{text}");
        assert!(text.contains("observed  0 22\n"), "{text}");
        assert!(text.contains("weaker    of a user's\n"), "{text}");
    }
}
