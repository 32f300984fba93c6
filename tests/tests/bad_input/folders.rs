//! Folders that cannot be pushed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
};

/// What is wrong with a folder, how it gets that way, and what people must be told.
type Case = (&'static str, fn(&Path) -> Result<()>, &'static [&'static str]);

const CASES: &[Case] = &[
    ("empty", |dir| Ok(fs::remove_file(dir.join("index.html"))?), &["holds no files"]),
    ("socket", |dir| bound(&dir.join("a.sock")), &["a.sock", "socket"]),
    ("pipe", |dir| made_by(Command::new("mkfifo").arg(dir.join("a.fifo"))), &["a.fifo", "pipe"]),
    ("link out", |dir| Ok(symlink("/etc/hostname", dir.join("out"))?), &["out", "symlink"]),
    ("folder out", |dir| Ok(symlink("/etc", dir.join("etc"))?), &["etc", "symlink"]),
    ("link to nothing", |dir| Ok(symlink("nowhere", dir.join("lost"))?), &["lost", "symlink"]),
    ("loop", |dir| Ok(symlink(".", dir.join("loop"))?), &["loop", "symlink"]),
    ("link to itself", |dir| Ok(symlink("self", dir.join("self"))?), &["self"]),
    ("not UTF-8", |dir| named(dir, b"caf\xe9.html"), &["not UTF-8"]),
    ("control character", |dir| named(dir, b"new\nline.html"), &["new\\nline.html"]),
    ("escape sequence", |dir| named(dir, b"\x1b[31mred"), &["\\u{1b}"]),
    ("backslash", |dir| named(dir, b"..\\x"), &["..\\x"]),
    ("only in case", |dir| named(dir, b"INDEX.html"), &["only in case", "--allow-case-collisions"]),
    ("unknown section", |dir| Ok(fs::write(dir.join("nigh.toml"), "[sit]\n")?), &["nigh.toml:1"]),
];

fn named(dir: &Path, name: &[u8]) -> Result<()> {
    Ok(fs::write(dir.join(OsStr::from_bytes(name)), "x")?)
}

fn bound(path: &Path) -> Result<()> {
    UnixListener::bind(path)?;
    Ok(())
}

fn made_by(command: &mut Command) -> Result<()> {
    ensure!(command.status()?.success(), "{command:?}");
    Ok(())
}

#[tokio::test]
async fn a_folder_that_cannot_be_served_is_refused_whole_and_the_release_before_stays() -> Result<()>
{
    let cdn = Cdn::of(fleet(1)).await?;
    let live = folder(&[("index.html", "live")])?;
    let release = cdn.push(live.path()).await?.release;

    for (case, spoil, words) in CASES {
        let dir = folder(&[("index.html", "never")])?;
        spoil(dir.path())?;
        let text = dir.path().to_string_lossy();
        let run = cdn.person.run(&["push", &text, "--site", SITE]).await?;
        assert_eq!(run.code, Some(6), "{case}: {run}");
        assert!(!run.stderr.contains('\u{1b}'), "{case}: the terminal is spoiled: {run}");
        run.says(words).says(&["try:"]);
    }
    a_device(&cdn).await?;

    assert_eq!(cdn.active().await?.to_string(), release);
    assert_eq!(cdn.text("fra", "/").await?, "live");
    cdn.fleet.stop().await
}

/// Only root may make one.
async fn a_device(cdn: &Cdn) -> Result<()> {
    let dir = folder(&[("index.html", "never")])?;
    let made = Command::new("mknod").arg(dir.path().join("null")).args(["c", "1", "3"]).status()?;
    if made.success() {
        let text = dir.path().to_string_lossy();
        cdn.person.run(&["push", &text, "--site", SITE]).await?.expect(6).says(&["null", "device"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_folder_is_refused_by_name() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "live")])?;
    cdn.push(dir.path()).await?;

    let (file, missing) = (dir.path().join("index.html"), dir.path().join("pubilc"));
    for (path, words) in [(file, "not a folder"), (missing, "No such file")] {
        let text = path.to_string_lossy();
        let run = cdn.person.run(&["push", &text, "--site", SITE]).await?.expect(6);
        run.says(&[&text, words, "try:"]);
    }

    assert_eq!(cdn.text("fra", "/").await?, "live");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn strange_but_servable_names_are_served() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let long = "n".repeat(240) + ".txt";
    let dir = folder(&[
        ("index.html", "x"),
        ("a b/+c;d=e&f.txt", "1"),
        ("..hidden/...txt", "2"),
        ("日本語/ファイル.txt", "3"),
        ("100%25.txt", "4"),
        ("~user/$HOME'(x)!*.txt", "5"),
        (&long, "6"),
    ])?;
    symlink("a b", dir.path().join("inside"))?;

    cdn.push(dir.path()).await?;

    cdn.serves(dir.path()).await?;
    assert_eq!(cdn.text("fra", "/inside/+c;d=e&f.txt").await?, "1");
    cdn.fleet.stop().await
}
