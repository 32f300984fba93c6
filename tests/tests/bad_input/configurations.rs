//! Configuration files of roles that cannot work.

use std::fs;

use anyhow::Result;
use nigh_tests::Person;

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_line_and_a_suggestion() -> Result<()> {
    let person = Person::stranger()?;
    let edge = "state_dir = \"/nonexistent\"\nname = \"fra\"\nregion = \"frankfurt\"\nlatitude = 50\n\
                longitude = 8\n[control]\nurl = \"https://127.0.0.1:8444\"\n";
    let dns = "state_dir = \"/nonexistent\"\nname = \"ns1\"\n[control]\n\
               url = \"https://127.0.0.1:8444\"\n";
    let control = "state_dir = \"/nonexistent\"\n";
    for (role, text) in [("edge", edge), ("dns", dns), ("control", control)] {
        let file = person.home().join(format!("{role}.toml"));
        fs::write(&file, text)?;
        let path = file.to_string_lossy();
        person.run(&["serve", role, "--config", &path, "--check"]).await?.expect(0);
        let run =
            person.run(&["serve", role, "--config", &path, "--print-config"]).await?.expect(0);
        assert!(run.stdout.contains("state_dir = \"/nonexistent\""), "{run}");
    }

    for (role, text, words) in [
        ("edge", format!("{edge}[htps]\nlisten = []\n"), &["edge.toml:8", "https"][..]),
        ("edge", format!("{edge}[https]\nlistn = []\n"), &["edge.toml:9", "listen"]),
        ("dns", format!("{dns}[probe]\ninterval = 3\n"), &["dns.toml:6", "interval_ms"]),
        ("dns", format!("{dns}[probe]\nfailures = 0\n"), &["probe.failures", "at least 1"]),
        ("control", format!("{control}[sites]\ngrace = 5\n"), &["control.toml:3", "grace_ms"]),
        (
            "control",
            format!("{control}[sites]\ndomain = \"a b\"\n"),
            &["control.toml:3", "hostname"],
        ),
        ("control", "[api]\n".to_owned(), &["state_dir"]),
        ("control", "state_dir = ".to_owned(), &["control.toml:1"]),
    ] {
        let file = person.home().join(format!("{role}.toml"));
        fs::write(&file, &text)?;
        let path = file.to_string_lossy();
        for args in [&["--check"][..], &["--print-config"], &[]] {
            let line = [&["serve", role, "--config", &path], args].concat();
            let run = person.run(&line).await?;
            assert_eq!(run.code, Some(6), "{text}\n{run}");
            run.says(words);
        }
    }
    fs::write(person.home().join("nigh.toml"), "= 3")?;
    person.run(&["check", "."]).await?.expect(6).says(&["nigh.toml:1"]);
    let missing = ["serve", "edge", "--config", "/nonexistent/edge.toml"];
    person.run(&missing).await?.expect(2).says(&["/nonexistent/edge.toml"]);
    Ok(())
}
