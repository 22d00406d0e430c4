//! Each layer left out, one by one: the read-back must notice, and name it.

use crate::support::{Bench, err};
use casemate_proto::cell::Layer;
use std::os::fd::AsRawFd;

fn others(layer: Layer) -> bool {
    // A property of the host; and one that this machine's kernel may lack.
    matches!(layer, Layer::FullKvm | Layer::CoreScheduling)
}

#[test]
fn each_layer_left_out_is_noticed_and_named() {
    // Without the layer fds, this one would get in.
    let dir = std::fs::File::open("/").unwrap();
    // SAFETY: a copy without close-on-exec, closed below.
    let leaked = unsafe { libc::dup(dir.as_raw_fd()) };
    for layer in Layer::ALL.into_iter().filter(|&layer| !others(layer)) {
        let bench = Bench::new(&format!("off-{layer}"));
        let out = format!("--leave-out={layer}");
        let output = bench.run(&[&out, "--cpu-list=0"], &["/bin/echo", "it ran"]);
        let said = err(&output);
        assert_eq!(output.status.code(), Some(125), "{layer}: {output:?}");
        assert!(
            said.contains(&format!("the layer {layer} does not hold")),
            "{layer}: {said}"
        );
        assert_eq!(output.stdout, b"", "{layer}");
    }
    // SAFETY: made above, and nobody else's.
    unsafe { libc::close(leaked) };
}

#[test]
fn a_layer_left_out_that_may_be_missing_is_reported_as_not_holding() {
    for layer in [
        Layer::NetNs,
        Layer::Cgroup,
        Layer::Landlock,
        Layer::Seccomp,
        Layer::UserNs,
    ] {
        let bench = Bench::new(&format!("may-{layer}"));
        let path = bench.path("r.json");
        let options = [
            format!("--leave-out={layer}"),
            format!("--allow-missing={layer}"),
            format!("--report={}", path.display()),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let output = bench.run(&options, &["true"]);
        assert_eq!(output.status.code(), Some(0), "{layer}: {output:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        let report: casemate_proto::report::Report = serde_json::from_str(&text).unwrap();
        for line in report.confinement {
            assert_eq!(line.holds, line.layer != layer, "{layer}: {line:?}");
        }
    }
}
