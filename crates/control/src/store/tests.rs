use nigh_proto::{
    Timestamp,
    api::{ReleaseState, SiteQuotas, SourceView},
};
use nigh_testkit::postgres::{Database, DatabaseKind};

use super::*;
use crate::fleet::fixture;

/// A database of each kind that control works on, empty.
struct Place {
    dir: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    fn each() -> [Place; 2] {
        [DatabaseKind::Sqlite, DatabaseKind::Postgres]
            .map(|kind| Place { dir: tempfile::tempdir().unwrap(), database: kind.make().unwrap() })
    }

    async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Store, OpenError> {
        let url = self.database.as_ref().map(Database::url);
        let file = self.dir.path().join("control.db");
        Store::open(url.as_deref(), &file, |_| Ok(Seal::new([7; 32]))).await
    }
}

#[tokio::test]
async fn a_revision_is_raised_only_with_what_it_describes() {
    for place in Place::each() {
        let store = place.open().await;
        let name = "docs".parse().unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.insert_site(&name, Timestamp::default()).await.unwrap();
        assert_eq!(tx.raise_revision().await.unwrap(), 2);
        drop(tx);
        let world = store.world().await.unwrap();
        assert_eq!((world.revision, world.sites.len()), (1, 0), "it was not committed");
    }
}

#[tokio::test]
async fn a_revision_never_falls_and_can_be_raised_past_a_machine() {
    for place in Place::each() {
        let store = place.open().await;
        for (floor, revision) in [(0, 2), (10, 10), (5, 11), (0, 12)] {
            let mut tx = store.begin().await.unwrap();
            assert_eq!(tx.raise_revision_to(floor).await.unwrap(), revision);
            tx.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_committed() {
    for place in Place::each() {
        let store = place.open().await;
        let mut tx = store.begin().await.unwrap();
        tx.insert_site(&"docs".parse().unwrap(), Timestamp::default()).await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
        let again = place.open().await;
        assert!(again.site(&"docs".parse().unwrap()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_name_is_taken_once() {
    for place in Place::each() {
        let store = place.open().await;
        let mut tx = store.begin().await.unwrap();
        let name = "docs".parse().unwrap();
        tx.insert_site(&name, Timestamp::default()).await.unwrap();
        let again = tx.insert_site(&name, Timestamp::default()).await;
        assert!(matches!(again, Err(StoreError::Taken(_))), "{again:?}");
    }
}

#[tokio::test]
async fn names_are_in_the_same_order_as_in_memory() {
    for place in Place::each() {
        let store = place.open().await;
        let mut tx = store.begin().await.unwrap();
        for name in ["a-c", "ab", "a0"] {
            tx.insert_site(&name.parse().unwrap(), Timestamp::default()).await.unwrap();
        }
        tx.commit().await.unwrap();
        let listed = store.sites("a-c", "", &[], 10).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|site| site.row.name.as_str()).collect();
        assert_eq!(listed, ["a0", "ab"]);
        let world = store.world().await.unwrap();
        assert!(world.site(&"a0".parse().unwrap()).is_some());
    }
}

#[tokio::test]
async fn transactions_go_one_after_the_other() {
    for place in Place::each() {
        let store = place.open().await;
        // SQLite's file belongs to one control.
        let other = match place.database {
            None => store.clone(),
            Some(_) => place.open().await,
        };
        let raise = |store: Store| async move {
            for _ in 0..20 {
                let mut tx = store.begin().await.unwrap();
                let seen = tx.revision().await.unwrap();
                assert_eq!(tx.raise_revision().await.unwrap(), seen + 1);
                tx.commit().await.unwrap();
            }
        };
        tokio::join!(raise(store.clone()), raise(other.clone()), raise(store.clone()));
        assert_eq!(store.revision().await.unwrap(), 61);
    }
}

#[tokio::test]
async fn the_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place { dir: tempfile::tempdir().unwrap(), database: None };
    let _store = place.open().await;
    let mode = std::fs::metadata(place.dir.path().join("control.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_disk_is_called_one_and_what_was_committed_is_there_when_there_is_room_again() {
    let place = Place { dir: tempfile::tempdir().unwrap(), database: None };
    let store = place.open().await;
    let add = async |number: usize| {
        let mut tx = store.begin().await?;
        let name = format!("site-{number}").parse().unwrap();
        tx.insert_site(&name, Timestamp::default()).await?;
        tx.commit().await
    };
    // SQLite treats a bound on its pages as a disk that has no more room.
    let pages: i64 = query("PRAGMA page_count").scalar(&store.writer).await.unwrap();
    let bound = |pages: i64| query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
    bound(pages).fetch_one(&store.writer).await.unwrap();
    let mut added = 0;
    let error = loop {
        match add(added).await {
            Ok(()) => added += 1,
            Err(error) => break error,
        }
        assert!(added < 10_000, "it never fills up");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(store.world().await.unwrap().sites.len(), added);
    bound(1_000_000).fetch_one(&store.writer).await.unwrap();
    add(added).await.unwrap();
    assert_eq!(store.world().await.unwrap().sites.len(), added + 1);
}

#[tokio::test]
async fn a_claim_of_a_key_lasts_as_long_as_it_is_renewed() {
    let (id, token) = ([1; 32], nigh_proto::TokenId::new(1, [1; 10]));
    let start = Timestamp::from_unix_ms(1_790_000_000_000);
    for place in Place::each() {
        let store = place.open().await;
        let claim = async |ms| store.claim_key(&id, &token, start.plus_ms(ms)).await.unwrap();
        assert_eq!(claim(0).await, Claim::Mine { since: start });
        assert_eq!(claim(14_999).await, Claim::Busy);
        store.renew_claim(&id, start, start.plus_ms(10_000)).await.unwrap();
        assert_eq!(claim(24_999).await, Claim::Busy);
        let second = start.plus_ms(25_000);
        assert_eq!(claim(25_000).await, Claim::Mine { since: second }, "the first has died");
        // It has not, and comes too late.
        let answer = KeptAnswer { fingerprint: vec![1], status: 201, text: "first".to_owned() };
        store.renew_claim(&id, start, start.plus_ms(60_000)).await.unwrap();
        store.keep_answer(&id, start, &answer).await.unwrap();
        store.release_key(&id, start).await.unwrap();
        assert_eq!(claim(39_999).await, Claim::Busy);
        let answer = KeptAnswer { text: "second".to_owned(), ..answer };
        store.keep_answer(&id, second, &answer).await.unwrap();
        store.renew_claim(&id, second, start.plus_ms(60_000)).await.unwrap();
        assert_eq!(claim(50_000).await, Claim::Answered(answer));
    }
}

#[tokio::test]
async fn sites_and_releases_are_read_as_they_were_written() {
    for place in Place::each() {
        let store = place.open().await;
        let at = Timestamp::from_unix_ms;
        let site: nigh_proto::SiteName = "docs".parse().unwrap();
        let quotas =
            SiteQuotas { files_max: Some(7), bytes_max: None, releases_max: Some(1 << 53) };
        // What JSON writes otherwise than a table does.
        let message = "\u{1}\"a\\b\" 'c' \n\u{1f30d}, [null]";
        let bare = ReleaseRow {
            bytes_total: i64::MAX.unsigned_abs(),
            created_at: at(-1),
            goes_live: false,
            ..fixture::release_row(1, ReleaseState::Uploading)
        };
        let full = ReleaseRow {
            id: fixture::release(2),
            state: ReleaseState::Active,
            variants: Some(Digest::of(b"variants")),
            message: Some(message.to_owned()),
            source: Some(SourceView {
                commit: Some("1\"2".to_owned()),
                branch: None,
                is_dirty: true,
            }),
            pushed_by: Some(String::new()),
            finalized_at: Some(at(2)),
            staging_at: Some(at(3)),
            goes_live: true,
            activated_at: Some(at(4)),
            live_revision: Some(5),
            grace_until: Some(at(6)),
            preview_host: Some("preview.example.com".parse().unwrap()),
            preview_expires_at: Some(at(7)),
            failure: Some(message.to_owned()),
            ..bare.clone()
        };
        let hosts = ["z.example.com", "a.example.com", "b.example.com"];
        let mut tx = store.begin().await.unwrap();
        tx.insert_site(&site, at(1)).await.unwrap();
        tx.set_quotas(&site, &quotas).await.unwrap();
        for (host, is_default) in hosts.into_iter().zip([true, false, false]) {
            let row = HostRow { host: host.parse().unwrap(), site: site.clone(), is_default };
            tx.insert_host(&row, at(1)).await.unwrap();
        }
        for row in [&full, &bare] {
            tx.insert_release(row).await.unwrap();
            tx.update_release(row).await.unwrap();
        }
        tx.insert_site(&"empty".parse().unwrap(), at(1)).await.unwrap();
        tx.commit().await.unwrap();

        let newest_first = [full.clone(), bare.clone()];
        let all = ReleaseFilter::default();
        assert_eq!(store.releases(&site, &all, 9).await.unwrap(), newest_first);
        assert_eq!(store.releases(&site, &all, 1).await.unwrap(), newest_first[..1]);
        assert_eq!(store.newest_releases(None, 9).await.unwrap(), newest_first);
        assert_eq!(store.all_releases().await.unwrap(), [bare.clone(), full.clone()]);
        assert_eq!(store.release(&bare.id).await.unwrap(), Some(bare));
        assert_eq!(store.releases(&"empty".parse().unwrap(), &all, 9).await.unwrap(), []);
        let listed = store.sites("", "", &[], 9).await.unwrap();
        let names: Vec<_> = listed.iter().map(|listed| listed.row.name.as_str()).collect();
        assert_eq!(names, ["docs", "empty"]);
        assert_eq!(listed[0].row.quotas, quotas);
        assert_eq!(listed[0].hosts, hosts.map(|host| host.parse().unwrap()));
        assert_eq!((listed[0].releases_total, listed[1].releases_total), (2, 0));
        assert_eq!(listed[1].hosts, []);
        assert_eq!(store.world().await.unwrap().sites[0].releases, [full]);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_taken_for_none() {
    for place in Place::each() {
        let store = place.open().await;
        let mut tx = store.begin().await.unwrap();
        tx.insert_site(&"docs".parse().unwrap(), Timestamp::default()).await.unwrap();
        query("UPDATE sites SET active = 'no release'").execute(&mut tx.on).await.unwrap();
        tx.commit().await.unwrap();
        let read = store.sites("", "", &[], 9).await;
        assert!(matches!(read, Err(StoreError::DamagedRow(_))), "{read:?}");
    }
}
