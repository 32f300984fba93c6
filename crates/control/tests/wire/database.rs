//! What does control do with a database that is of a newer version, locked, or read-only?

use nigh_control::{ControlConfig, ControlServer, StartError};
use nigh_daemon::{Clock, Context, Role};
use nigh_proto::api::{ReleaseState, SiteView};
use nigh_testkit::postgres::{Database, DatabaseKind};
use reqwest::{Method, StatusCode};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::fleet::{Fleet, config, expect, refused};

const KINDS: [DatabaseKind; 2] = [DatabaseKind::Sqlite, DatabaseKind::Postgres];
/// A migration that this version does not have.
const NEWER: i64 = 9_000_001;

async fn fleet_on(kind: DatabaseKind) -> Fleet {
    let database = kind.make().unwrap();
    Fleet::start_in(tempfile::tempdir().unwrap(), database, |_| {}, Clock::system()).await
}

/// A connection to the file beside control's own.
async fn beside(fleet_dir: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(fleet_dir.join("state/control.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Runs statements beside control; each gives one column, whose texts come back.
async fn run(fleet: &Fleet, sql: &str) -> Vec<String> {
    if let Some(database) = &fleet.database {
        return database.run(sql).unwrap().lines().map(str::to_owned).collect();
    }
    let mut connection = beside(fleet.dir.path()).await;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let rows = sqlx::raw_sql(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

/// What a newer version does to the schema: every table gets a column, and there is a new table.
async fn migrate_forward(fleet: &Fleet) {
    let tables = match fleet.database {
        None => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        Some(_) => "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    };
    for table in run(fleet, tables).await.iter().filter(|table| !table.starts_with("_sqlx")) {
        run(fleet, &format!("ALTER TABLE {table} ADD COLUMN newer TEXT DEFAULT 'x'")).await;
    }
    run(fleet, "CREATE TABLE newer (id INTEGER PRIMARY KEY)").await;
    let hash = if fleet.database.is_some() { "'\\x00'" } else { "x'00'" };
    run(
        fleet,
        &format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES ({NEWER}, 'newer', TRUE, {hash}, 0)"
        ),
    )
    .await;
}

/// How control fails to start in the folder of `fleet`, which it has stopped.
async fn fails_to_start(dir: &std::path::Path, database: Option<&Database>) -> String {
    let mut config = config(dir.join("state"));
    config.database.url = database.map(Database::url);
    config.secrets.key_file = database.map(|_| dir.join("secret.key"));
    let started = ControlServer::start(config, Context::new("control", "0.0.0")).await;
    let error: StartError = started.map(drop).unwrap_err();
    nigh_daemon::logging::causes(&error)
}

/// On PostgreSQL: the file of SQLite belongs to one control.
#[tokio::test]
async fn an_older_version_that_runs_goes_on_while_a_newer_one_changes_the_schema() {
    let fleet = fleet_on(DatabaseKind::Postgres).await;
    fleet.create_site("before").await;
    let release = fleet.push("before", &[("index.html", "one")]).await;
    fleet.until_active(&release).await;
    let _: SiteView = fleet.get("/v1/sites/before").await;

    migrate_forward(&fleet).await;

    // Everything that it asked before it asks again, over the connections that it has.
    let _: SiteView = fleet.get("/v1/sites/before").await;
    fleet.create_site("after").await;
    for site in ["before", "after"] {
        let release = fleet.push(site, &[("index.html", "two"), ("new.html", site)]).await;
        assert_eq!(fleet.until_active(&release).await.state, ReleaseState::Active);
    }
    for path in [
        "/v1/sites",
        "/v1/machines",
        "/v1/tokens",
        "/v1/events",
        "/v1/audit",
        "/v1/webhooks",
        "/v1/operations",
        "/v1/certificates",
        "/v1/status",
        "/v1/ca",
        "/v1/backup?blobs=false",
    ] {
        let answer = fleet.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn an_older_version_refuses_to_start_on_a_newer_schema_and_changes_nothing() {
    for kind in KINDS {
        let fleet = fleet_on(kind).await;
        fleet.create_site("docs").await;
        migrate_forward(&fleet).await;
        let Fleet { dir, database, server, .. } = fleet;
        server.stop().await;
        let error = fails_to_start(dir.path(), database.as_ref()).await;
        assert!(error.contains("belongs to a newer nigh"), "{error}");
        assert!(error.contains(&NEWER.to_string()) && error.contains("Start the newer"), "{error}");
        let again = fails_to_start(dir.path(), database.as_ref()).await;
        assert_eq!(again, error, "it says so every time");
        let sites = "SELECT name FROM sites";
        let sites = match &database {
            Some(database) => database.run(sites).unwrap(),
            None => {
                let mut connection = beside(dir.path()).await;
                sqlx::query_scalar(sites).fetch_one(&mut connection).await.unwrap()
            }
        };
        assert_eq!(sites, "docs");
    }
}

#[tokio::test]
async fn a_database_that_somebody_holds_locked_is_waited_for_and_said_to_be_locked() {
    let fleet = fleet_on(DatabaseKind::Sqlite).await;
    fleet.create_site("docs").await;
    let mut other = beside(fleet.dir.path()).await;
    sqlx::raw_sql("BEGIN IMMEDIATE; UPDATE fleet SET revision = revision")
        .execute(&mut other)
        .await
        .unwrap();
    let made = fleet.post("/v1/sites", &serde_json::json!({ "name": "blog" })).await;
    assert_eq!(made.headers()["retry-after"], "1");
    let problem: nigh_proto::api::Problem = expect(StatusCode::SERVICE_UNAVAILABLE, made).await;
    assert_eq!(problem.code, "database_unavailable");
    assert!(problem.detail.contains("another program holds the database locked"), "{problem:?}");
    // Whoever only looks is not held up.
    let _: SiteView = fleet.get("/v1/sites/docs").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    fleet.create_site("blog").await;
}

#[tokio::test]
async fn a_database_that_can_only_be_read_is_read_and_said_to_be_so() {
    let fleet = fleet_on(DatabaseKind::Postgres).await;
    fleet.create_site("docs").await;
    let set = |is: &str| {
        let name = run_one("SELECT current_database()", &fleet);
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {is}");
        run_one(&format!("BEGIN READ WRITE; {set}; COMMIT"), &fleet);
        // It holds for sessions that begin now.
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        run_one(others, &fleet);
    };
    set("on");
    let code = eventually_refused(&fleet).await;
    assert_eq!(code, "store_read_only");
    let _: SiteView = fleet.get("/v1/sites/docs").await;
    set("off");
    let deadline = tokio::time::Instant::now() + crate::fleet::DEADLINE;
    loop {
        let made = fleet.post("/v1/sites", &serde_json::json!({ "name": "blog" })).await;
        if made.status() == StatusCode::CREATED {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", made.text().await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn run_one(sql: &str, fleet: &Fleet) -> String {
    fleet.database.as_ref().unwrap().run(sql).unwrap()
}

/// The code of a refusal to make a site, once sessions that were cut are noticed.
async fn eventually_refused(fleet: &Fleet) -> String {
    let deadline = tokio::time::Instant::now() + crate::fleet::DEADLINE;
    loop {
        let made = fleet.post("/v1/sites", &serde_json::json!({ "name": "blog" })).await;
        if made.status() != StatusCode::SERVICE_UNAVAILABLE {
            return refused(StatusCode::INSUFFICIENT_STORAGE, made).await;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is still away");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_that_can_only_be_read_is_read_and_said_to_be_so() {
    let fleet = fleet_on(DatabaseKind::Sqlite).await;
    fleet.create_site("docs").await;
    let Fleet { dir, server, .. } = fleet;
    server.stop().await;
    let url = format!("sqlite:{}?mode=ro", dir.path().join("state/control.db").display());
    let read_only = |config: &mut ControlConfig| config.database.url = Some(url);
    let fleet = Fleet::start_in(dir, None, read_only, Clock::system()).await;
    let _: SiteView = fleet.get("/v1/sites/docs").await;
    let made = fleet.post("/v1/sites", &serde_json::json!({ "name": "blog" })).await;
    assert_eq!(refused(StatusCode::INSUFFICIENT_STORAGE, made).await, "store_read_only");
    let fleet = fleet.restart().await;
    fleet.create_site("blog").await;
}

#[tokio::test]
async fn a_key_file_that_is_missing_or_another_ones_is_named_and_nothing_is_made_anew() {
    for kind in KINDS {
        let fleet = fleet_on(kind).await;
        let Fleet { dir, database, server, .. } = fleet;
        server.stop().await;
        let file = match kind {
            DatabaseKind::Sqlite => dir.path().join("state/secret.key"),
            DatabaseKind::Postgres => dir.path().join("secret.key"),
        };
        let key = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let error = fails_to_start(dir.path(), database.as_ref()).await;
        assert!(error.contains("secret.key"), "{error}");
        assert!(!file.exists(), "another key would open nothing");
        std::fs::write(&file, "no key").unwrap();
        let error = fails_to_start(dir.path(), database.as_ref()).await;
        assert!(error.contains("secret.key"), "{error}");
        let other: String = "0123456789abcdef".repeat(4);
        std::fs::write(&file, other).unwrap();
        let error = fails_to_start(dir.path(), database.as_ref()).await;
        assert!(error.contains("key"), "{error}");
        std::fs::write(&file, key).unwrap();
        Fleet::start_in(dir, database, |_| {}, Clock::system()).await;
    }
}
