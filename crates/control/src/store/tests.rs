use nigh_proto::Timestamp;
use nigh_testkit::postgres::{Database, DatabaseKind};

use super::*;

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
        let listed: Vec<_> = listed.iter().map(|row| row.name.as_str()).collect();
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
