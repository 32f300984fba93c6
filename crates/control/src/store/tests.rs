use nigh_proto::Timestamp;

use super::*;

async fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(None, &dir.path().join("control.db"), Seal::new([7; 32])).await.unwrap()
}

#[tokio::test]
async fn a_revision_is_raised_only_with_what_it_describes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let name = "docs".parse().unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.insert_site(&name, Timestamp::default()).await.unwrap();
    assert_eq!(tx.raise_revision().await.unwrap(), 2);
    drop(tx);
    let world = store.world().await.unwrap();
    assert_eq!((world.revision, world.sites.len()), (1, 0), "it was not committed");
}

#[tokio::test]
async fn a_revision_never_falls_and_can_be_raised_past_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for (floor, revision) in [(0, 2), (10, 10), (5, 11), (0, 12)] {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.raise_revision_to(floor).await.unwrap(), revision);
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut tx = store.begin().await.unwrap();
    tx.insert_site(&"docs".parse().unwrap(), Timestamp::default()).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;
    assert!(open(&dir).await.site(&"docs".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut tx = store.begin().await.unwrap();
    let name = "docs".parse().unwrap();
    tx.insert_site(&name, Timestamp::default()).await.unwrap();
    let again = tx.insert_site(&name, Timestamp::default()).await;
    assert!(matches!(again, Err(StoreError::Taken(_))), "{again:?}");
}

#[tokio::test]
async fn the_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let _store = open(&dir).await;
    let mode = std::fs::metadata(dir.path().join("control.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
