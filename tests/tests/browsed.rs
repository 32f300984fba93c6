//! Does the page at `/docs` show the API to people, and let them try it, with control alone?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, ensure};
use nigh_testkit::Fleet;
use nigh_tests::{binary, browser::Browser, eventually, patience::SOON};
use serde_json::Value;

/// `METHOD /path` of every operation that is described.
fn described() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/openapi.json");
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    all.collect()
}

/// The like of what the page shows.
fn shown(browser: &Browser) -> Result<BTreeSet<String>> {
    let script = "return Array.from(document.querySelectorAll('details > summary'), (head) => \
                  `${head.querySelector('.method').textContent} ${head.querySelector('code').textContent}`)";
    Ok(serde_json::from_value(browser.run(script)?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_operation_and_asks_nobody_but_control() {
    let fleet = Fleet::builder(binary::nigh()).edges(1).start().await.unwrap();
    let origin = format!("https://{}", fleet.control_listener("api").unwrap());
    let browser = Browser::start().unwrap();
    browser.open(&format!("{origin}/docs")).unwrap();
    let wanted = described();
    assert!(wanted.len() > 50);
    eventually("every operation is shown", SOON, async || {
        let shown = shown(&browser)?;
        ensure!(shown == wanted, "{:?}", wanted.symmetric_difference(&shown));
        Ok(())
    })
    .await;
    assert_eq!(browser.complaints().unwrap(), [""; 0], "the page complains of nothing");

    // A person types a token, opens one operation and tries it.
    browser.type_into("//input[@id='token']", fleet.token()).unwrap();
    let whoami = "//details[summary/code[text()='/v1/whoami']]";
    browser.click(&format!("{whoami}/summary")).unwrap();
    browser.click(&format!("{whoami}/button")).unwrap();
    let answer = format!(
        "return document.evaluate(\"{whoami}/pre\", document, null, \
         XPathResult.STRING_TYPE, null).stringValue"
    );
    eventually("the answer is shown", SOON, async || {
        let said = browser.run(&answer)?;
        let said = said.as_str().unwrap_or_default().to_owned();
        let is_answer = said.starts_with("GET /v1/whoami\n200 ") && said.contains("\"name\": \"");
        ensure!(is_answer, "{said}");
        ensure!(!said.contains(fleet.token()), "the token is not shown");
        Ok(())
    })
    .await;
    let kept = browser.run("return document.cookie + localStorage.length + sessionStorage.length");
    assert_eq!(kept.unwrap(), "00", "nothing is kept");

    let requests = browser.requests().unwrap();
    assert!(requests.contains(&format!("{origin}/v1/whoami")), "{requests:?}");
    for url in &requests {
        assert!(url.starts_with(&format!("{origin}/")), "{url}");
    }

    // Whatever the page were to do, the policy keeps it here.
    let violation = browser.await_run(
        "const done = arguments[0]; \
         document.addEventListener('securitypolicyviolation', \
           (event) => done(`${event.effectiveDirective} ${event.blockedURI}`)); \
         fetch('https://other.example/').catch(() => {})",
    );
    let violation = violation.unwrap();
    assert!(violation.as_str().unwrap().starts_with("connect-src https://other.example"));
    drop(browser);
    fleet.stop().await.unwrap();
}
