//! Every command in the documentation works as it is written.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{Person, binary, cdn::fleet};

/// Commands that are not run here, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo run --release", "it builds the whole workspace again; `demo` keeps what it promises"),
    ("./tests/run", "it runs this test"),
    ("nigh serve ", "it runs until it is stopped; every fleet of these tests begins with it"),
];

/// What people have done before they type a command, by how that begins.
const BEFORE: &[(&str, &str)] = &[("nigh rollback", "nigh push ./public --site docs")];

/// The documents, from the root of the project.
const DOCUMENTS: [&str; 1] = ["README.md"];

/// Every command in fenced blocks of `console` (after `$ `) and `sh` (each line), in order.
fn commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fence: Option<&str> = None;
    for line in markdown.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language.trim()),
            (Some(_), Some(_)) => fence = None,
            (Some("console"), None) => commands.extend(line.strip_prefix("$ ").map(str::to_owned)),
            (Some("sh"), None) if !line.trim().is_empty() && !line.starts_with('#') => {
                commands.push(line.to_owned());
            }
            _ => {}
        }
    }
    commands
}

fn not_run(command: &str) -> bool {
    NOT_RUN.iter().any(|(beginning, _)| command.starts_with(beginning))
}

#[tokio::test]
async fn every_command_works_as_it_is_written() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).with_context(|| document.to_owned())?;
        let commands = commands(&text);
        ensure!(!commands.is_empty(), "{document} has no commands");
        works(document, &commands).await?;
    }
    Ok(())
}

/// Types the commands of one document one after another, beside a folder `public`.
async fn works(document: &str, commands: &[String]) -> Result<()> {
    let fleet = fleet(1).start().await?;
    let program = binary::nigh();
    let folder = program.parent().context("a program lies in a folder")?;
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap_or_default());
    let person = Person::of(&fleet)?.with("PATH", path);
    for (number, command) in commands.iter().enumerate() {
        if not_run(command) {
            continue;
        }
        // Whoever pushes twice has changed something.
        tree::write(&person.home().join("public"), "index.html", format!("{number}").as_bytes())?;
        let before = BEFORE.iter().filter(|(beginning, _)| command.starts_with(beginning));
        for command in before.map(|(_, command)| *command).chain([command.as_str()]) {
            let output = person.program("sh").args(["-c", command]).output().await?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{document}: $ {command}\n{said}\n{complaint}");
        }
    }
    fleet.stop().await
}

#[test]
fn what_is_not_run_is_still_in_a_document() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let texts = DOCUMENTS.map(|document| fs::read_to_string(root.join(document)));
    let mut all = Vec::new();
    for text in texts {
        all.extend(commands(&text?));
    }
    for (beginning, reason) in NOT_RUN {
        let is_there = all.iter().any(|command| command.starts_with(beginning));
        assert!(is_there, "{beginning:?} ({reason}) is in no document any more");
    }
    Ok(())
}
