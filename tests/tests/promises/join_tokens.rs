//! A join token lets one machine of one name in, once, for a while.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use nigh_proto::report::MachineRole;
use nigh_testkit::{
    config::{self, EdgeSettings, Upstream},
    place::Place,
    process::{Process, Program},
};
use nigh_tests::{Cdn, binary, cdn::fleet, eventually, patience::SOON};

/// An edge that is not one of the fleet yet.
struct Newcomer {
    process: Process,
    dir: PathBuf,
}

impl Newcomer {
    /// `name` comes with what is in `token`, to a folder of its own.
    async fn comes(cdn: &Cdn, name: &'static str, token: &str) -> Result<Self> {
        let machines = cdn.fleet.control().listeners().get("machines").expect("control's port");
        let count = fs::read_dir(cdn.fleet.dir())?.count();
        let dir = cdn.fleet.dir().join(format!("newcomer-{count}"));
        fs::create_dir(&dir)?;
        let (token_file, file) = (dir.join("join-token"), dir.join("edge.toml"));
        fs::write(&token_file, token)?;
        let any = "127.0.0.1:0".parse()?;
        let table = config::edge(EdgeSettings {
            state_dir: &dir.join("state"),
            place: Place::of_edge(name).expect("this is the edge of a place"),
            http: any,
            https: any,
            ops: any,
            upstream: Upstream {
                machines: &[machines],
                ca_file: &cdn.fleet.ca_file(),
                join_token_file: &token_file,
            },
        })?;
        fs::write(&file, table.to_string())?;
        let args = ["serve", "edge", "--exit-with-stdin", "--config", &file.to_string_lossy()];
        let mut process = Process::new(Program {
            name: format!("newcomer {name}"),
            binary: binary::nigh(),
            args: args.map(str::to_owned).to_vec(),
            log: dir.join("log"),
            environment: Vec::new(),
        })?;
        // A machine that may not join may end or go on asking: either way it says why.
        let _ = process.start().await;
        Ok(Self { process, dir })
    }

    async fn is_refused(&mut self, cdn: &Cdn, name: &str, why: &str) -> Result<()> {
        eventually(format!("{name} is told {why:?}"), SOON, async || {
            let log = fs::read_to_string(self.dir.join("log"))?;
            let is_told = log.contains("is not accepted") && log.to_lowercase().contains(why);
            ensure!(is_told, "{log}");
            Ok(())
        })
        .await;
        let machines = cdn.fleet.client().machines(None).await?;
        let found = machines.iter().filter(|machine| machine.name.as_str() == name).count();
        assert_eq!(found, usize::from(name == "fra"), "{name} was let in");
        self.process.stop().await
    }
}

#[tokio::test]
async fn a_token_that_was_used_or_is_for_another_or_is_too_old_lets_nobody_in() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let token = async |name: &str, expires: &str| -> Result<String> {
        let made = cdn.person.json(&["edge", "token", name, "--expires", expires]).await?;
        Ok(made["token"].as_str().expect("a token").to_owned())
    };

    let used = fs::read_to_string(cdn.fleet.dir().join("config/fra.join-token"))?;
    assert!(used.starts_with("nigh_join_"), "secret scanners know it");
    Newcomer::comes(&cdn, "fra", &used).await?.is_refused(&cdn, "fra", "used").await?;

    let for_nyc = token("nyc", "1h").await?;
    Newcomer::comes(&cdn, "sin", &for_nyc).await?.is_refused(&cdn, "sin", "nyc").await?;

    let short = token("gru", "1ms").await?;
    Newcomer::comes(&cdn, "gru", &short).await?.is_refused(&cdn, "gru", "expired").await?;

    let invented = format!("nigh_join_{}", "0".repeat(43));
    Newcomer::comes(&cdn, "syd", &invented).await?.is_refused(&cdn, "syd", "join token").await?;

    // The token for nyc was shown by another and is good still.
    let mut nyc = Newcomer::comes(&cdn, "nyc", &for_nyc).await?;
    eventually("nyc is in the fleet", Duration::from_secs(20), async || {
        let machines = cdn.fleet.client().machines(Some(MachineRole::Edge)).await?;
        let nyc = machines.iter().find(|machine| machine.name.as_str() == "nyc");
        ensure!(nyc.is_some_and(|nyc| nyc.is_connected && nyc.is_current), "{nyc:?}");
        Ok(())
    })
    .await;
    nyc.process.stop().await?;
    cdn.fleet.stop().await
}
