//! `casemate doctor` on the machine at hand.

use std::process::Command;
use std::time::{Duration, Instant};

fn doctor(arguments: &[&str]) -> (Option<i32>, String) {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_casemate"))
        .arg("doctor")
        .args(arguments)
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(output.stderr.is_empty());
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn json_and_table_agree() {
    let (status, json) = doctor(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let (table_status, table) = doctor(&[]);
    assert_eq!(status, table_status);
    assert_eq!(status, Some(if json["can_run"] == true { 0 } else { 1 }));
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.len() > 10);
    for check in checks {
        let (name, found) = (
            check["name"].as_str().unwrap(),
            check["found"].as_str().unwrap(),
        );
        assert!(table.contains(name), "{name}");
        // How much memory is available changes from call to call.
        assert!(name == "memory" || table.contains(found), "{name}");
        assert!(!check["consequence"].as_str().unwrap().is_empty());
        assert_eq!(
            check["status"] == "ok",
            check["remedy"].is_null(),
            "{check}"
        );
    }
}

#[test]
fn a_kvm_that_interprets_ring_0_is_told_from_none() {
    let (_, json) = doctor(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let find = |name: &str| {
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).cloned()
    };
    let kvm = find("kvm").unwrap();
    let Some(full) = find("full-kvm") else {
        assert_eq!(
            kvm["status"], "fail",
            "without /dev/kvm there is nothing to try"
        );
        return;
    };
    assert_eq!(kvm["status"], "ok");
    if full["status"] == "fail" {
        let found = full["found"].as_str().unwrap();
        assert!(found.contains("/dev/kvm is there"), "{found}");
        assert_eq!(full["consequence"], "this KVM cannot run a guest kernel");
        assert_eq!(full["missing"][0], "full-kvm");
    }
}

#[test]
fn run_refuses_with_the_doctors_words() {
    let (_, json) = doctor(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let Some(first) = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["status"] == "fail" && check["name"] != "binaries")
    else {
        return; // this host can run guests
    };
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_casemate"))
        .args(["run", "--no-audit", "--", "true"])
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(output.status.code(), Some(125));
    let line = String::from_utf8(output.stderr).unwrap();
    for part in ["found", "consequence", "remedy"] {
        assert!(line.contains(first[part].as_str().unwrap()), "{line}");
    }
}
