//! Who changed what is known, and nobody can change that.

use std::time::Duration;

use nigh_daemon::Clock;
use nigh_proto::{
    api::{Page, TokenCreated},
    audit::{AuditChain, AuditEntry, Broken, Chain},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::fleet::{DEADLINE, Fleet, expect, refused};

async fn all(fleet: &Fleet) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    let mut path = "/v1/audit?order=oldest_first&limit=3".to_owned();
    loop {
        let page: Page<AuditEntry> = fleet.get(&path).await;
        entries.extend(page.items);
        let Some(cursor) = page.next_cursor else { return entries };
        path = format!("/v1/audit?order=oldest_first&limit=3&cursor={cursor}");
    }
}

async fn broken(fleet: &Fleet) -> Vec<Broken> {
    let known: AuditChain = fleet.get("/v1/audit/chain").await;
    let mut chain = Chain::after(known.start);
    let broken = all(fleet).await.iter().filter_map(|entry| chain.follow(entry).err()).collect();
    assert_eq!(chain.mark(), known.end);
    broken
}

/// The database, changed beside control as somebody with its file or its password could.
async fn sql(fleet: &Fleet, statement: &'static str) -> Result<(), String> {
    if let Some(database) = &fleet.database {
        let on = if statement.starts_with("DROP TRIGGER") { " ON audit" } else { "" };
        let statement = format!("{statement}{on}");
        return database.run(&statement).map(drop).map_err(|error| format!("{error:?}"));
    }
    let file = fleet.dir.path().join("state/control.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let done = sqlx::query(statement).execute(&pool).await;
    pool.close().await;
    done.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_change_is_written_down_with_who_made_it() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    fleet.post("/v1/sites/docs/hosts", &json!({ "host": "www.example.test" })).await;
    let release = fleet.push("docs", &[("index.html", "one")]).await;
    fleet.until_active(&release).await;
    fleet.request(Method::DELETE, "/v1/sites/docs/hosts/www.example.test").send().await.unwrap();
    fleet.post("/v1/join-tokens", &json!({ "role": "edge", "name": "fra1" })).await;
    let entries = all(&fleet).await;
    let verbs: Vec<&str> = entries.iter().map(|entry| entry.verb.as_str()).collect();
    assert_eq!(
        verbs,
        [
            "token.create",
            "site.create",
            "host.add",
            "release.begin",
            "release.finalize",
            "release.staged",
            "host.remove",
            "join_token.create"
        ]
    );
    let host = &entries[2];
    assert_eq!((host.actor_kind.as_str(), host.actor_name.as_str()), ("token", "admin"));
    assert_eq!((host.site.as_deref(), host.subject.as_str()), (Some("docs"), "www.example.test"));
    assert_eq!(host.address.as_deref(), Some("127.0.0.0"));
    assert!(host.request_id.as_ref().is_some_and(|id| id.starts_with("req_")));
    assert_eq!(entries[5].actor_kind, "control");
    assert_eq!(broken(&fleet).await, []);

    let of_docs: Page<AuditEntry> = fleet.get("/v1/audit?site=docs&verb=host.add").await;
    assert_eq!(of_docs.items, std::slice::from_ref(host));
    let later = format!("/v1/audit?since={}", "2999-01-01T00:00:00Z");
    assert_eq!(fleet.get::<Page<AuditEntry>>(&later).await.items, []);
}

#[tokio::test]
async fn what_was_refused_is_written_down_too() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let new = json!({ "name": "ci", "scope": "read", "sites": ["docs"] });
    let made: TokenCreated =
        expect(StatusCode::CREATED, fleet.post("/v1/tokens", &new).await).await;
    let url = format!("{}/v1/sites/docs", fleet.api);
    let no = fleet.http.delete(url).bearer_auth(&made.secret).send().await.unwrap();
    assert_eq!(refused(StatusCode::FORBIDDEN, no).await, "not_allowed");
    let last = all(&fleet).await.pop().unwrap();
    assert_eq!((last.outcome.as_str(), last.actor_name.as_str()), ("refused", "ci"));
    assert_eq!(
        (last.verb.as_str(), last.site.as_deref()),
        ("DELETE /v1/sites/{site}", Some("docs"))
    );
    assert_eq!(last.details["code"], "not_allowed");
    // A token for a site reads what was done to it, and only that.
    let new = json!({ "name": "auditor", "verbs": ["audit:read"], "sites": ["docs"] });
    let auditor: TokenCreated =
        expect(StatusCode::CREATED, fleet.post("/v1/tokens", &new).await).await;
    let url = format!("{}/v1/audit", fleet.api);
    let page = fleet.http.get(&url).bearer_auth(&auditor.secret).send().await.unwrap();
    let page: Page<AuditEntry> = expect(StatusCode::OK, page).await;
    assert_eq!(page.items.len(), 2);
    assert!(page.items.iter().all(|entry| entry.site.as_deref() == Some("docs")));
    let chain = format!("{url}/chain");
    let no = fleet.http.get(chain).bearer_auth(&auditor.secret).send().await.unwrap();
    assert_eq!(refused(StatusCode::FORBIDDEN, no).await, "not_allowed");
}

#[tokio::test]
async fn the_database_takes_nothing_back_and_whoever_forces_it_is_found_out() {
    let fleet = Fleet::start().await;
    for name in ["docs", "blog", "shop"] {
        fleet.create_site(name).await;
    }
    for statement in [
        "UPDATE audit SET actor_name = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 4",
        "UPDATE audit_start SET seq = -1",
    ] {
        let error = sql(&fleet, statement).await.unwrap_err();
        assert!(error.contains("append-only"), "{error}");
    }
    assert_eq!(broken(&fleet).await, []);
    sql(&fleet, "DROP TRIGGER audit_is_not_updated").await.unwrap();
    sql(&fleet, "DROP TRIGGER audit_is_pruned_from_the_front").await.unwrap();
    sql(&fleet, "UPDATE audit SET subject = 'other' WHERE seq = 2").await.unwrap();
    assert_eq!(broken(&fleet).await, [Broken::Altered { seq: 2 }]);
    sql(&fleet, "DELETE FROM audit WHERE seq = 3").await.unwrap();
    let both = [Broken::Altered { seq: 2 }, Broken::Gone { from: 3, to: 3 }];
    assert_eq!(broken(&fleet).await, both);
    // A start that control did not set has not its seal.
    sql(&fleet, "UPDATE audit_start SET seq = 2").await.unwrap();
    let chain: AuditChain = fleet.get("/v1/audit/chain").await;
    assert!(!chain.is_start_sealed);
}

#[tokio::test]
async fn old_entries_go_from_the_front_and_the_rest_still_holds() {
    let (clock, _hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|config| config.audit.keep_entries = 2, clock).await;
    for name in ["docs", "blog", "shop"] {
        fleet.create_site(name).await;
    }
    let pruned = async {
        let mut rounds = 0;
        while fleet.get::<AuditChain>("/v1/audit/chain").await.pruned_at.is_none() {
            rounds += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rounds
    };
    // The pass at the start may have come before the sites; a restart makes another.
    let fleet = if tokio::time::timeout(Duration::from_millis(200), pruned).await.is_ok() {
        fleet
    } else {
        let Fleet { dir, database, server, .. } = fleet;
        nigh_daemon::Role::stop(server).await;
        Fleet::start_in(dir, database, |config| config.audit.keep_entries = 2, Clock::system())
            .await
    };
    let chain = async {
        loop {
            let chain: AuditChain = fleet.get("/v1/audit/chain").await;
            if chain.start.seq > 0 {
                return chain;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let chain = tokio::time::timeout(DEADLINE, chain).await.expect("it is pruned");
    assert!(chain.is_start_sealed && chain.pruned_at.is_some());
    let entries = all(&fleet).await;
    assert_eq!(entries[0].seq, chain.start.seq + 1);
    assert_eq!(entries.last().unwrap().verb, "audit.prune");
    assert_eq!(broken(&fleet).await, []);
}
