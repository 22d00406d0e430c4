//! A line of the log in words. What is in it may be a tenant's: nothing of it reaches the
//! terminal but printable characters.

use crate::say;
use casemate_audit::Entry;
use casemate_audit::Event;

/// One line.
pub fn words(entry: &Entry) -> String {
    let whose = match (&entry.tenant, &entry.id) {
        (Some(tenant), Some(id)) => format!("{tenant}/{id}"),
        _ => "(the log)".to_owned(),
    };
    say::plain(&format!(
        "{} {:>8} {whose:<24} {}",
        entry.time,
        entry.seq,
        what(entry)
    ))
}

fn what(entry: &Entry) -> String {
    let value = serde_json::json!({"event": entry.event, "what": entry.what});
    // A later release may know more.
    let Ok(event) = serde_json::from_value::<Event>(value) else {
        return format!("{} {}", entry.event, entry.what);
    };
    match event {
        Event::Open(open) => format!("file {} begins, by casemate {}", open.file, open.casemate),
        Event::Recovered(found) => format!(
            "recovered: {} bytes of an interrupted writer set aside",
            found.bytes
        ),
        Event::Gap(gap) => format!("gap: lines up to {} are lost", gap.signed.seq),
        Event::Start(start) => {
            let what = start.program.unwrap_or_else(|| "a VM".to_owned());
            let policies: Vec<&str> = start.policies.keys().map(String::as_str).collect();
            let missing: Vec<String> = start.allow_missing.iter().map(|l| l.to_string()).collect();
            let without = match missing.is_empty() {
                true => String::new(),
                false => format!(", {} allowed to be missing", missing.join(", ")),
            };
            format!(
                "start: {what}, process {}, uid {}, under {}{without}",
                start.process,
                start.uid,
                policies.join(", ")
            )
        }
        Event::Layers(layers) if layers.hold => {
            format!("layers: all {} hold", layers.layers.len())
        }
        Event::Layers(layers) => {
            let broken = layers.layers.iter().filter(|layer| !layer.holds);
            let broken: Vec<String> = broken.map(|layer| layer.layer.to_string()).collect();
            format!("layers: NOT {}", broken.join(", "))
        }
        Event::Refused(refused) => format!("refused: {}", refused.message),
        Event::Denied(denied) => format!("denied by {}: {}", denied.layer, denied.how),
        Event::Limit(hit) => format!("limit: {}", hit.detail),
        Event::Exit(exit) => format!(
            "exit: {}; CPU {:.3} s, memory {} KiB",
            exit.how,
            (exit.cpu_user_us + exit.cpu_system_us) as f64 / 1e6,
            exit.memory_peak_bytes / 1024
        ),
        Event::Cleared(_) => "cleared after its supervisor was killed".to_owned(),
    }
}
