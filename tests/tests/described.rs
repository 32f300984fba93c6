//! Does control answer as its description says, whatever is sent to it?
//!
//! Schemathesis makes requests from the OpenAPI document, good ones and bad ones, and checks every
//! answer against it: no status, field or media type that is not described, nothing bad taken,
//! nothing good refused, no route without a login, no 5xx. The requests are the same in every run; to have
//! others, and more of them:
//!
//! ```sh
//! NIGH_DESCRIBED_SEED=$RANDOM NIGH_DESCRIBED_S=600 tests/run -p nigh-tests --test described
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nigh_testkit::Fleet;
use nigh_tests::binary;

/// How many seconds requests are made; examples and edge cases come first, random ones fill what is
/// left.
const MAX_TIME_S: &str = "60";
/// The same requests every time.
const SEED: &str = "7";

/// What the environment says, else the usual.
fn setting(name: &str, usual: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| usual.to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn control_answers_as_its_description_says() {
    let program = root().join("tests/.cache/schemathesis/bin/schemathesis");
    assert!(program.is_file(), "{} is not there: run tests/install", program.display());
    let fleet = Fleet::builder(binary::nigh()).edges(1).start().await.unwrap();
    let environment = fleet.environment();
    let of = |name: &str| &environment.iter().find(|(known, _)| known == name).unwrap().1;
    let url = of("NIGH_API_URL");
    let (seed, max_time_s) =
        (setting("NIGH_DESCRIBED_SEED", SEED), setting("NIGH_DESCRIBED_S", MAX_TIME_S));
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(root().join("tests/schemathesis.toml"))
        .arg("run")
        .arg(format!("{url}/v1/openapi.json"))
        .args(["--header", &format!("Authorization: Bearer {}", fleet.token())])
        .args(["--tls-verify", of("NIGH_CA_FILE")])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--checks", "all"])
        .args(["--mode", "all", "--seed", &seed, "--max-time", &max_time_s, "--no-color"])
        .args(["--request-timeout", "40", "--generation-database", "none"])
        .current_dir(dir.path())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("passed"), "it ran: {said}");
    fleet.stop().await.unwrap();
}
