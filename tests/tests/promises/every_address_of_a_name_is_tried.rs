//! One name may have the addresses of several controls: commands find one that works.

use anyhow::{Result, ensure};
use nigh_tests::{
    Cdn, Person,
    cdn::{SITE, folder},
    proxy::{Line, Proxy},
};

/// `nigh ARGS…` where `localhost` has two addresses, as a server of names would say.
async fn where_localhost_has_two(person: &Person, args: &[&str]) -> Result<std::process::Output> {
    let hosts = person.home().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.2 localhost\n")?;
    let mut command = person.program("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"")
        .arg("sh")
        .arg(&hosts)
        .arg(nigh_tests::binary::nigh())
        .args(args);
    Ok(command.output().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_finds_the_address_that_answers_whichever_it_is() -> Result<()> {
    let cdn = Cdn::start().await?;
    let api = cdn.fleet.control_listener("api")?;
    let one = Proxy::to(api, Line::Open).await?;
    let other = ([127, 0, 0, 2], one.addr().port()).into();
    let other = Proxy::at(other, api, Line::Open).await?;
    let url = format!("https://localhost:{}", one.addr().port());
    let person = cdn.person.with("NIGH_API_URL", url);
    let proxies = [&one, &other];
    let rounds = [(0, 1, "second"), (1, 0, "first"), (0, 1, "second again"), (1, 0, "first again")];
    for (dead, living, page) in rounds {
        // It accepts connections, so that to connect is not enough.
        proxies[dead].set(Line::CutAfter(0));
        proxies[living].set(Line::Open);
        let (sent, dir) = (proxies[living].sent(), folder(&[("index.html", page)])?);
        let dir_text = dir.path().to_string_lossy().into_owned();
        let push = ["push", &dir_text, "--site", SITE, "--json"];
        let output = where_localhost_has_two(&person, &push).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
        ensure!(proxies[living].sent() > sent, "it went another way");
        cdn.serves(dir.path()).await?;
    }
    cdn.fleet.stop().await
}
