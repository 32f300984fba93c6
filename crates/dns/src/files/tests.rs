use std::{fs, path::PathBuf};

use nigh_testkit::mmdb::{self, Record, RecordSize};
use tempfile::TempDir;

use super::*;

struct Place {
    dir: TempDir,
    files: GeoFiles,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config =
            GeoipConfig { city: Some(dir.path().join("city.mmdb")), ..GeoipConfig::default() };
        Self { files: GeoFiles::new(config, DnsMetrics::default()), dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("city.mmdb")
    }

    /// As `cp` or an updater does: a new file takes the name.
    fn put(&self, bytes: &[u8]) {
        let next = self.dir.path().join("next");
        fs::write(&next, bytes).unwrap();
        fs::rename(next, self.path()).unwrap();
    }

    fn latitude(&self, address: &str) -> Option<f64> {
        let file = self.files.current().city?;
        file.location(address.parse().unwrap()).found.map(|location| location.latitude)
    }
}

/// A file that has 198.51.100.0/24 and `2001:db8:1::/48` at `latitude`.
fn database(latitude: f64) -> Vec<u8> {
    let record = Record { latitude, longitude: 8.0, asn: Some(64_500), ..Record::default() };
    let networks = ["198.51.100.0/24", "2001:db8:1::/48"]
        .map(|network| (network.parse().unwrap(), record.clone()));
    mmdb::encode(&networks, RecordSize::Bits28, 1_767_225_600).unwrap()
}

#[test]
fn a_file_places_its_networks_and_says_how_far_that_holds() {
    let mut place = Place::new();
    place.put(&database(50.0));
    assert!(place.files.check().is_some());
    let file = place.files.current().city.unwrap();
    for (address, is_found, uniform_len) in [
        ("198.51.100.7", true, 24),
        ("198.51.101.7", false, 24),
        ("10.0.0.1", false, 1),
        ("2001:db8:1::7", true, 48),
        ("2001:db8:0::7", false, 48),
        ("2a00::1", false, 5),
    ] {
        let found = file.location(address.parse().unwrap());
        assert_eq!(
            (found.found.is_some(), found.uniform_len),
            (is_found, uniform_len),
            "{address}"
        );
    }
}

#[test]
fn a_replaced_file_is_taken_and_an_unchanged_one_is_not_read_again() {
    let mut place = Place::new();
    place.put(&database(50.0));
    assert!(place.files.check().is_some());
    assert!(place.files.check().is_none());
    place.put(&database(-20.0));
    assert!(place.files.check().is_some());
    assert_eq!(place.latitude("198.51.100.7"), Some(-20.0));
}

#[test]
fn a_missing_truncated_or_corrupt_file_leaves_the_last_good_one() {
    let mut place = Place::new();
    place.put(&database(50.0));
    assert!(place.files.check().is_some());
    let good = database(10.0);
    let mut corrupt = good.clone();
    // The nodes lead astray, the metadata at the end is sound.
    corrupt[..600].fill(0xee);
    for bad in [&good[..good.len() / 2], b"", b"not a database at all", &corrupt] {
        place.put(bad);
        assert!(place.files.check().is_none());
        assert_eq!(place.latitude("198.51.100.7"), Some(50.0));
    }
    fs::remove_file(place.path()).unwrap();
    assert!(place.files.check().is_none());
    assert_eq!(place.latitude("198.51.100.7"), Some(50.0));
    place.put(&good);
    assert!(place.files.check().is_some());
    assert_eq!(place.latitude("198.51.100.7"), Some(10.0));
}

#[test]
fn a_file_that_is_truncated_in_place_harms_nobody() {
    let mut place = Place::new();
    place.put(&database(50.0));
    assert!(place.files.check().is_some());
    fs::OpenOptions::new().write(true).open(place.path()).unwrap().set_len(10).unwrap();
    assert_eq!(place.latitude("198.51.100.7"), Some(50.0));
    assert!(place.files.check().is_none());
    assert_eq!(place.latitude("198.51.100.7"), Some(50.0));
}

#[test]
fn a_file_that_is_too_large_is_refused_with_what_to_change() {
    let place = Place::new();
    place.put(&database(50.0));
    let error = GeoFile::open(&place.path(), 100).unwrap_err();
    assert!(error.to_string().contains("geoip.file_bytes_max"), "{error}");
}

#[test]
fn a_file_that_is_no_longer_configured_is_dropped() {
    let mut place = Place::new();
    place.put(&database(50.0));
    assert!(place.files.check().is_some());
    place.files.set_config(GeoipConfig::default());
    assert!(place.files.check().is_some_and(|geo| geo.city.is_none()));
}

#[test]
fn autonomous_systems_are_known_where_a_file_has_them() {
    let place = Place::new();
    place.put(&database(50.0));
    let file = GeoFile::open(&place.path(), 1 << 20).unwrap();
    assert_eq!(file.asn("198.51.100.7".parse().unwrap()), Some(64_500));
    assert_eq!(file.asn("10.0.0.1".parse().unwrap()), None);
}

#[tokio::test]
async fn a_replaced_file_reaches_the_snapshot_while_the_server_runs() {
    let place = Place::new();
    let path = place.path();
    place.put(&database(50.0));
    let config = GeoipConfig { reload_ms: 5, ..place.files.config.clone() };
    let (_settings, settings) = watch::channel(config.clone());
    let (sender, mut geo) = watch::channel(Geo::default());
    let stopping = CancellationToken::new();
    let files = GeoFiles::new(config, DnsMetrics::default());
    let following = tokio::spawn(follow(files, settings, sender, stopping.clone()));
    for latitude in [50.0, -33.0] {
        fs::write(path.with_extension("next"), database(latitude)).unwrap();
        fs::rename(path.with_extension("next"), &path).unwrap();
        let taken = geo.wait_for(|geo| {
            let found = geo
                .city
                .as_ref()
                .and_then(|file| file.location("198.51.100.7".parse().unwrap()).found);
            found.is_some_and(|location| location.latitude == latitude)
        });
        tokio::time::timeout(Duration::from_secs(20), taken).await.unwrap().unwrap();
    }
    stopping.cancel();
    following.await.unwrap();
}
